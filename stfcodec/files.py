"""Reading and writing whole files; `-` is standard input or output.

A file appears under its final name complete or not at all. Errors are one line and name the path.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import StfError, UsageError
from .limits import DEFAULT_LIMITS

STANDARD_STREAM = "-"

HEAD = 64
"""Bytes: enough to tell what a file is."""


@contextmanager
def atomic_write(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name if the body succeeds.

    Whatever the body raises, Ctrl-C included, the temporary file is removed and `path` is as it
    was. A symbolic link is written through; a device or pipe is written to directly.

    Raises UsageError if `path` is a directory, or exists and `overwrite` is false; StfError for
    any OSError, one of the body's own included.
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".stf-{secrets.token_hex(8)}.tmp"
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb") as file:
                yield file
            return
        _refuse_occupied(path, overwrite)
        with temporary.open("xb") as file:
            yield file
        _refuse_occupied(path, overwrite)  # it may have appeared while the body ran
        temporary.replace(target)
    except OSError as error:
        raise StfError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_bytes(
    source: str | Path,
    limit: int = DEFAULT_LIMITS.bytes,
    check: Callable[[bytes], object] = lambda head: None,
) -> bytes:
    """All of a file, or of standard input for `-`.

    limit: bytes. check: gets the first bytes, at most HEAD, and raises what it has against them:
    then nothing else is read. Raises StfError if the file cannot be read or is over the limit,
    UsageError if standard input is a terminal.
    """
    name = "standard input" if str(source) == STANDARD_STREAM else str(source)
    try:
        if str(source) != STANDARD_STREAM:
            with Path(source).open("rb") as file:
                return _read(file, name, limit, check)
        if sys.stdin.isatty():
            raise UsageError("standard input is a terminal; pipe data in or name a file")
        return _read(sys.stdin.buffer, name, limit, check)
    except OSError as error:
        raise StfError(f"cannot read {name}: {_reason(error)}") from error


def _read(file: BinaryIO, name: str, limit: int, check: Callable[[bytes], object]) -> bytes:
    head = file.read(HEAD)
    check(head)
    data = head + file.read(limit - len(head) + 1)
    if len(data) > limit:
        raise StfError(f"{name} has more than {limit} bytes, the most that is read")
    return data


def write_bytes(target: str | Path, data: bytes, overwrite: bool) -> None:
    """Write a whole file atomically, or to standard output for `-`.

    Raises UsageError if standard output is a terminal, and what `atomic_write` raises.
    """
    if str(target) != STANDARD_STREAM:
        with atomic_write(Path(target), overwrite) as file:
            file.write(data)
        return
    if sys.stdout.isatty():
        raise UsageError("refusing to write binary data to a terminal; redirect it or name a file")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is still buffered would fail again, with a traceback, when the interpreter exits.
        with Path(os.devnull).open("wb") as devnull:
            os.dup2(devnull.fileno(), sys.stdout.fileno())
        raise StfError(f"cannot write standard output: {_reason(error)}") from error


def _refuse_occupied(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a directory; name a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already; use --force to overwrite it")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
