"""Temporary files that become outputs.

A lock marks a temporary file that is in use. One without it was left by a run that was killed, and
the next run that writes into its folder removes it.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import stat
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

_NAME = re.compile(r"\.stf-(?:([0-9a-f]{8})-)?[0-9a-f]{16}\.tmp")  # without a machine: before 0.4
_MACHINE = f"{zlib.crc32(platform.node().encode()):08x}"
_OLD = 86_400  # seconds
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def create(folder: Path, mode: int) -> tuple[Path, BinaryIO]:
    """A new locked file in `folder`, open for writing, with `mode` less what the umask takes away.

    Closing the file unlocks it. Raises OSError.
    """
    while True:
        path = folder / f".stf-{_MACHINE}-{secrets.token_hex(8)}.tmp"
        file = os.fdopen(os.open(path, _NEW, mode), "wb")
        if _lock(file) and path.exists():
            return path, file
        file.close()  # another run took it for a stale one, between these two calls


def remove_stale(folder: Path) -> None:
    """Remove the temporary files in `folder` that killed runs of this user left.

    A file of another machine, whose locks may not be seen here, is left for a day.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        found = [(Path(e), match) for e in entries if (match := _NAME.fullmatch(e.name))]
        for path, match in found:
            with suppress(OSError):
                _remove_if_stale(path, seconds=0 if match[1] == _MACHINE else _OLD)


def _lock(file: BinaryIO) -> bool:
    """Lock a new file, where the file system can; False if another process has locked it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def _remove_if_stale(path: Path, seconds: float) -> None:
    """Raises OSError for a file that is in use or cannot be locked."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_mtime > time.time() - seconds:
        return
    if sys.platform == "win32":
        path.unlink()  # which fails while it is open
        return
    if status.st_uid != os.geteuid():
        return
    # Locks on network file systems need a file that is open for writing.
    access = os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY
    descriptor = os.open(path, access | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(descriptor)
