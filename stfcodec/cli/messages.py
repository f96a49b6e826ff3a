"""One-line messages on stderr, and lines of results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from stfcodec.batch import Failure, explain
from stfcodec.errors import StfError, printable


def say(text: str) -> None:
    """A line on stderr. Where that is full, closed or read by nobody, the work goes on."""
    with suppress(OSError, ValueError):
        click.echo(text, err=True)


def result(text: str) -> None:
    """A line of a command's result on stdout.

    Raises StfError where it cannot be written, BrokenPipeError where nobody reads on.
    """
    if sys.stdout is None:
        raise StfError("cannot write standard output: it is closed")
    encoding = sys.stdout.encoding or "utf-8"
    try:  # a name that the terminal's encoding lacks must not stop the line
        click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StfError(f"cannot write standard output: {error.strerror}") from error


def record(fields: dict[str, Any]) -> None:
    """A JSON object as a line on stdout (docs/json.md). Raises as `result` does."""
    result(json.dumps(fields))


def record_failure(path: str, failure: Failure) -> None:
    """A record of why a file was not coded."""
    error = failure.message.removeprefix(f"{printable(path)}: ")
    record({"input": path, "error": error, "exit_code": failure.exit_code})


@contextmanager
def recorded(path: str, as_json: bool) -> Iterator[None]:
    """Write a record of an error that ends the command while it works on a file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except Exception as error:
        if as_json:
            record_failure(path, explain(error))
        raise


def warn(path: str, message: str) -> None:
    """Something that the user should know of a file that was coded."""
    say(_line("warning", path, message))


def note(message: str) -> None:
    """Something that concerns no single file."""
    say(printable(f"stfcodec: note: {message}"))


def fail(path: str, failure: Failure, as_json: bool = False) -> None:
    """Why a file was not coded, below the traceback if there is one. as_json: and a record of it,
    for which it raises as `result` does."""
    say(failure.trace + _line("error", path, failure.message))
    if as_json:
        record_failure(path, failure)


def stop(failure: Failure) -> None:
    """Why the command ends, below the traceback if there is one."""
    say(failure.trace + printable(f"stfcodec: error: {failure.message}"))


def _line(kind: str, path: str, message: str) -> str:
    """`stfcodec: KIND: PATH: MESSAGE`, one line whatever is in the path; it is named once."""
    if path == "-":
        return printable(f"stfcodec: {kind}: {message}")
    name = printable(path)
    message = printable(message).removeprefix(f"{name}: ").replace(f" {name}: ", ": ", 1)
    return f"stfcodec: {kind}: {name}: {message}"
