"""One-line messages on stderr."""

from __future__ import annotations

import click

from stfcodec.batch import Failure


def warn(path: str, message: str) -> None:
    click.echo(_line("warning", path, message), err=True)


def note(message: str) -> None:
    """What concerns no single file."""
    click.echo(f"stfcodec: note: {message}", err=True)


def fail(path: str, failure: Failure) -> None:
    click.echo(failure.trace + _line("error", path, failure.message), err=True)


def _line(kind: str, path: str, message: str) -> str:
    # A path that cannot be printed must not stop the message; it is named once, not twice.
    name = "" if path == "-" or path in message else f"{click.format_filename(path)}: "
    return f"stfcodec: {kind}: {name}{message}"
