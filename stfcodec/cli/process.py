"""The process of a command: its standard streams, exit codes of signals, garbage collection."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stfcodec import files

_ALLOCATIONS = 50_000  # between two searches; Python's own default is 700

INTERRUPTED = 128 + signal.SIGINT
_SIGNALS = {
    getattr(signal, name): word
    for name, word in {"SIGTERM": "terminated", "SIGHUP": "hung up"}.items()
    if hasattr(signal, name)  # Windows has no SIGHUP
}


class Stopped(KeyboardInterrupt):
    """A signal asks the command to end: files are tidied up as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(_SIGNALS[number])
        self.exit_code = 128 + number


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into `Stopped`; a second one ends the process at once.

    A signal that is ignored, as under nohup, stays ignored. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Stopped(number)

    caught = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Search for cyclic garbage seldom: with torch imported, a search takes a tenth of a second."""
    before = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def occupy_closed_streams() -> None:
    """Open the null device where the shell has closed a standard stream.

    Otherwise the next file that is opened would take its number, and what a library writes to
    standard error would end up in that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def flush_standard_output() -> None:
    """Write what is still buffered, rather than when the interpreter exits. Raises OSError."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except ValueError:  # closed by the command
        pass
    except OSError:
        files.discard_standard_output()
        raise
