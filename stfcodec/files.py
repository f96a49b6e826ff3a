"""Reading and writing whole files; `-` is standard input or output.

A file appears under its final name complete or not at all, also after a power failure. Errors are
one line and name the path.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stfcodec.errors import StfError, UsageError
from stfcodec.limits import DEFAULT_LIMITS

STANDARD_STREAM = "-"

HEAD = 64
"""Bytes: enough to tell what a file is."""

Check = Callable[[bytes], object]
"""Gets the first bytes of a file, at most HEAD; raises an error if they are not acceptable."""


@contextmanager
def atomic_write(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name if the body succeeds.

    The data reach the disk before the name does. A file that is replaced passes its permission
    bits on; a new file has the umask's default. Whatever the body raises, Ctrl-C included, the
    temporary file is removed and `path` is as it was. A symbolic link is written through; a device
    or pipe is written to directly.

    Raises UsageError if `path` is a directory, or exists and `overwrite` is false; StfError for
    any OSError, one of the body's own included.
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".stf-{secrets.token_hex(8)}.tmp"
    try:
        # By its own name: what /dev/stdout resolves to, a pipe's, cannot be opened.
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("wb") as file:
                yield file
            return
        _refuse_occupied(path, overwrite)
        with temporary.open("xb") as file:
            if os.name == "posix" and target.exists():
                with suppress(OSError):  # some file systems have no permission bits
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            _sync(file)
        _refuse_occupied(path, overwrite)  # it may have appeared while the body ran
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise StfError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync(file: BinaryIO) -> None:
    """Send a file's data to the disk, where the file system can."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync_folder(folder: Path) -> None:
    """Make a renamed file's new name last, on systems where folders can be opened and synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_bytes(
    source: str | Path, limit: int = DEFAULT_LIMITS.bytes, check: Check = lambda head: None
) -> bytes:
    """All of the file at a path, or of standard input for `-`.

    limit: bytes. check: if it raises, nothing more of the file is read. Raises StfError if the
    file cannot be read or is over the limit, UsageError if standard input is a terminal.
    """
    if str(source) == STANDARD_STREAM:
        if sys.stdin is None:
            raise StfError("cannot read standard input: it is closed")
        if sys.stdin.isatty():
            raise UsageError("standard input is a terminal; pipe data in or name a file")
        return _read(sys.stdin.buffer, "standard input", limit, check)
    try:
        with Path(source).open("rb") as file:
            return _read(file, str(source), limit, check)
    except OSError as error:  # of opening
        raise StfError(f"cannot read {source}: {_reason(error)}") from error
    except ValueError:
        raise StfError(f"cannot read {source!r}: no name of a file") from None


def read_file_object(
    file: BinaryIO, limit: int = DEFAULT_LIMITS.bytes, check: Check = lambda head: None
) -> bytes:
    """All of an open binary file, from its start where it can seek.

    limit, check, errors: as of `read_bytes`.
    """
    with suppress(AttributeError, OSError):  # a pipe
        file.seek(0)
    return _read(file, str(getattr(file, "name", "the file")), limit, check)


def _read(file: BinaryIO, name: str, limit: int, check: Check) -> bytes:
    try:
        head = _take(file, HEAD)
        check(head)
        data = head + _take(file, limit - len(head) + 1)
    except OSError as error:
        raise StfError(f"cannot read {name}: {_reason(error)}") from error
    if len(data) > limit:
        raise StfError(f"{name} has more than {limit} bytes, the most that is read")
    return data


def _take(file: BinaryIO, count: int) -> bytes:
    """The next `count` bytes, or all to the end; a pipe may give them in pieces."""
    pieces = []
    while count > 0 and (piece := file.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def write_bytes(target: str | Path, data: bytes, overwrite: bool) -> None:
    """Write a whole file atomically, or to standard output for `-`.

    Raises UsageError if standard output is a terminal, and what `atomic_write` raises.
    """
    if str(target) != STANDARD_STREAM:
        with atomic_write(Path(target), overwrite) as file:
            file.write(data)
        return
    if sys.stdout is None:
        raise StfError("cannot write standard output: it is closed")
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
