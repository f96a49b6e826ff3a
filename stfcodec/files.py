"""Reading and writing whole files, standard input and standard output.

A file appears under its final name complete or not at all, also after a power failure. Errors are
one line and name the path.
"""

from __future__ import annotations

import errno
import os
import re
import select
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from stfcodec import temporary
from stfcodec.errors import StfError, StorageError, UsageError
from stfcodec.limits import DEFAULT_LIMITS

HEAD = 64
"""Bytes: enough to tell what a file is."""

STANDARD_INPUT = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})
STANDARD_OUTPUT = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
"""What a command line may call them. A file whose name is "-" can be called ./-."""

_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}
_OPEN_FILE = re.compile(
    r"/dev/(?P<name>std(in|out|err))|/(dev|proc/self)/fd/(?P<number>[0-9]{1,9})"
)

_LASTING = {errno.ENOSPC, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Errors that the next file would meet, too."""

Check = Callable[[bytes], object]
"""Gets the first bytes of a file, at most HEAD; raises an error if they are not acceptable."""


class TooLongError(StfError):
    """A file has more bytes than the limit."""


class OutputExistsError(UsageError):
    """An output exists already, and is not to be replaced."""


@contextmanager
def atomic_write(
    path: Path,
    overwrite: bool,
    like: Sequence[Path | None] = (),
    attributes: os.stat_result | None = None,
) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name if the body succeeds.

    The data reach the disk before the name does. A file that is replaced passes its owner and its
    permission bits on. A new file has the umask's default, and no right to read or write that one
    of `like`, the files that it is made of, does not give; None stands for standard input. Whatever
    the body raises, Ctrl-C included, the temporary file is removed and `path` is as it was. Of two
    programs that write one new file, the second gets an error. A symbolic link is written through;
    a device, a pipe or a name of an open file such as /dev/fd/3 is written to directly.
    attributes: of a file whose times and permission bits this one gets, in place of those above.

    Raises UsageError if `path` is a directory, OutputExistsError if it exists and `overwrite` is
    false, StorageError or StfError for any OSError, one of the body's own included.
    """
    try:
        if is_open_file(path) or (path.exists() and not path.is_file() and not path.is_dir()):
            # By its own name: what /dev/fd/3 resolves to, a pipe's, cannot be opened.
            with _open(path, "wb") as file:
                yield file
            return
        check_output(path, overwrite)
        output = Path(os.path.realpath(path))
        scratch, file = temporary.create(output.parent, _permissions(like))
        try:
            with file:
                _keep_owner_and_mode(output, file)
                yield file
                file.flush()
                if attributes is not None:
                    _set_attributes(scratch, file, attributes)
                _sync(file)
                if os.name == "nt":
                    file.close()  # an open file cannot be renamed there
                check_output(path, overwrite)  # it may have appeared while the body ran
                _give_name(scratch, output, overwrite)
        finally:
            with suppress(OSError):
                scratch.unlink()
        _sync_folder(output.parent)
    except OSError as error:
        kind = StorageError if error.errno in _LASTING else StfError
        raise kind(f"cannot write {path}: {_reason(error)}") from error


def check_output(path: Path, overwrite: bool) -> None:
    """Raises UsageError if `path` is a directory, OutputExistsError if it may not be replaced."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory; name a file")
    if not overwrite and path.is_file() and not is_open_file(path):
        raise OutputExistsError(f"{path} exists already; use --force to replace it")


def is_open_file(path: str | Path) -> bool:
    """Whether a path is a name of one of this process's open files, such as /dev/stdout."""
    return _descriptor(path) is not None


def identity(path: Path) -> object:
    """Equal for two paths that lead to the same file, through links of either kind too."""
    try:
        status = path.stat()
    except OSError:
        return os.path.normcase(path.absolute())
    return status.st_dev, status.st_ino


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are missing. Raises StfError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StfError(f"cannot make the folder {path}: {_reason(error)}") from error


def _descriptor(path: str | Path) -> int | None:
    match = _OPEN_FILE.fullmatch(os.fspath(path))
    if match is None:
        return None
    return int(match["number"]) if match["number"] else _STANDARD[match["name"]]


def _open(path: Path, mode: str) -> BinaryIO:
    """Open a file by its path. One that is open already goes on where it is."""
    number = _descriptor(path)
    file = path.open(mode) if number is None else os.fdopen(os.dup(number), mode)
    return cast("BinaryIO", file)


def _permissions(like: Sequence[Path | None]) -> int:
    """Permission bits for a new file that is made of others, before the umask's are taken away."""
    allowed = 0o666
    for path in like if os.name != "nt" else ():
        try:
            mode = path.stat().st_mode if path is not None else 0
        except OSError:  # it is gone, and whose it was is not known
            mode = stat.S_IFREG | 0o600
        if stat.S_ISREG(mode):
            allowed &= mode
    return allowed


def _keep_owner_and_mode(old: Path, new: BinaryIO) -> None:
    """Give a new file what the file that it replaces has, as far as this user and system can.

    By its descriptor: whoever may write into the folder could exchange what has its name.
    """
    if os.name != "posix" or not old.exists():
        return
    status, descriptor = old.stat(), new.fileno()
    for owner, group in ((-1, status.st_gid), (status.st_uid, -1)):
        with suppress(OSError):
            os.chown(descriptor, owner, group)
    mode = stat.S_IMODE(status.st_mode)
    if os.fstat(descriptor).st_gid != status.st_gid:  # another group, with the rights of all
        mode = mode & ~0o070 | (mode & 0o007) << 3 & mode
    with suppress(OSError):  # some file systems have no permission bits
        os.fchmod(descriptor, mode)


def _set_attributes(path: Path, file: BinaryIO, wanted: os.stat_result) -> None:
    """Give a file the times and permission bits of another one. Raises OSError."""

    def target(function: Callable[..., object]) -> int | Path:
        return file.fileno() if function in os.supports_fd else path

    os.utime(target(os.utime), ns=(wanted.st_atime_ns, wanted.st_mtime_ns))
    os.chmod(target(os.chmod), wanted.st_mode & 0o777)  # noqa: PTH101


def _give_name(scratch: Path, output: Path, overwrite: bool) -> None:
    """Give a finished file its name. Raises OutputExistsError if another has taken it."""
    if not overwrite:
        try:
            os.link(scratch, output)  # unlike a rename, it never replaces a file
        except FileExistsError:
            check_output(output, overwrite)
            raise
        except OSError:  # a file system without links
            check_output(output, overwrite)
        else:
            return
    scratch.replace(output)


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
    path: str | Path, limit: int = DEFAULT_LIMITS.bytes, check: Check = lambda head: None
) -> bytes:
    """All of the file at a path.

    limit: bytes. check: if it raises, nothing more of the file is read. Raises TooLongError if the
    file is over the limit, another StfError if it cannot be read.
    """
    path = Path(path)
    with _opening(path), _open(path, "rb") as file:
        return _read(file, str(path), limit, check)


def check_input(path: Path, check: Check) -> None:
    """Raise the error of `read_bytes` that the name or the first bytes of a file give.

    What is no regular file, such as a pipe, passes, and nothing is read from it.
    """
    with _opening(path):
        if is_open_file(path) or (path.exists() and not path.is_file()):
            return
        with path.open("rb") as file:
            check(_take(file, HEAD))


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Turn the errors of opening a file for reading into StfError."""
    try:
        yield
    except OSError as error:
        raise StfError(f"cannot read {path}: {_reason(error, path)}") from error
    except ValueError:
        raise StfError(f"cannot read {str(path)!r}: no name of a file") from None


def read_standard_input(
    limit: int = DEFAULT_LIMITS.bytes, check: Check = lambda head: None
) -> bytes:
    """All of standard input. limit, check and errors: as of `read_bytes`.

    Raises UsageError besides if it is a terminal.
    """
    if sys.stdin is None:
        raise StfError("cannot read standard input: it is closed")
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe data in or name a file")
    return _read(sys.stdin.buffer, "standard input", limit, check)


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
        raise TooLongError(f"{name} has more than {limit} bytes, the most that is read")
    return data


def _take(file: BinaryIO, count: int) -> bytes:
    """The next `count` bytes, or all to the end; a pipe may give them in pieces."""
    pieces = []
    while count > 0:
        piece: bytes | None = file.read(count)
        if piece is None:  # nothing yet, where another program has made the pipe non-blocking
            select.select([file], [], [])
            continue
        if not piece:
            break
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def write_bytes(
    path: Path,
    data: bytes,
    overwrite: bool,
    like: Sequence[Path | None] = (),
    attributes: os.stat_result | None = None,
) -> None:
    """Write a whole file atomically. like, attributes, errors: as of `atomic_write`."""
    with atomic_write(path, overwrite, like, attributes) as file:
        file.write(data)


def write_standard_output(data: bytes) -> None:
    """Write to standard output. Raises StfError, and UsageError if it is a terminal."""
    if sys.stdout is None:
        raise StfError("cannot write standard output: it is closed")
    if sys.stdout.isatty():
        raise UsageError("refusing to write binary data to a terminal; redirect it or name a file")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        discard_standard_output()
        raise StfError(f"cannot write standard output: {_reason(error)}") from error


def discard_standard_output() -> None:
    """Let what standard output still buffers go nowhere.

    After a failed write it would fail again, with a traceback, when the interpreter exits.
    """
    with suppress(OSError, ValueError), Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), sys.stdout.fileno())


def _reason(error: OSError, path: Path | None = None) -> str:
    if isinstance(error, FileNotFoundError) and path is not None and path.is_symlink():
        return f"a link to {path.readlink()}, which does not exist"
    return error.strerror or str(error)
