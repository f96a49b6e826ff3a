"""Collects what C libraries write to standard error while they read a picture.

libtiff reports damage there and nowhere else, without the file's name. The descriptor belongs to
the whole process. So only the command collects, one picture at a time, and its own messages take
another descriptor meanwhile.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import IO, BinaryIO

_STDERR = 2  # the descriptor that C libraries write to
_MOST_BYTES = 1 << 16  # of one picture's messages that are looked at
_DECODING_S = 10.0  # at most, that the end of the command waits for a picture being read


class Collector:
    """Sends descriptor 2 to a file of its own for as long as a picture is read."""

    def __init__(self) -> None:
        self._terminal = os.dup(_STDERR)
        self._scratch = _scratch_file()
        self._is_on = True
        self._lock = Lock()

    @contextmanager
    def collect(self, lines: list[str]) -> Iterator[None]:
        """Append to `lines`, at the end, the lines that were written to descriptor 2."""
        with self._lock:
            if not self._is_on:
                yield
                return
            os.dup2(self._scratch.fileno(), _STDERR)
            try:
                yield
            finally:
                os.dup2(self._terminal, _STDERR)
                self._scratch.seek(0)
                text = self._scratch.read(_MOST_BYTES).decode(errors="replace")
                self._scratch.seek(0)
                self._scratch.truncate()
                lines += [_without_noise(line) for line in text.splitlines() if line.strip()]
                if not self._is_on:  # the command has ended meanwhile
                    self._close()

    def stop(self) -> None:
        """Put descriptor 2 back for good. A picture that is still read keeps what it needs."""
        is_idle = self._lock.acquire(timeout=_DECODING_S)
        self._is_on = False
        os.dup2(self._terminal, _STDERR)
        if is_idle:
            self._close()
            self._lock.release()

    def _close(self) -> None:
        self._scratch.close()
        os.close(self._terminal)


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector, and `sys.stderr` on a descriptor that it leaves alone."""
    before = sys.stderr
    found = Collector()
    if _descriptor(before) == _STDERR:
        sys.stderr = os.fdopen(
            os.dup(_STDERR), "w", buffering=1, encoding=before.encoding, errors=before.errors
        )
    try:
        yield found
    finally:
        found.stop()
        if sys.stderr is not before:
            ours, sys.stderr = sys.stderr, before
            ours.close()


def _without_noise(line: str) -> str:
    return line.replace("tempfile.tif: ", "").strip(" .")  # Pillow's name for every file


def _scratch_file() -> BinaryIO:
    if sys.platform == "linux":  # in memory: no folder for temporary files need be writable
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


def _descriptor(stream: IO[str] | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):  # a host program's stand-in, or closed
        return None
