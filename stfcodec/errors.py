"""Errors that a user can meet, each with the exit code that its command ends with.

The library raises them with a one-line message that says what is wrong and what to do. The command
line prints that line and exits. Any other exception is a bug. `one_line` and `printable` keep a
message on its line, and `storable` makes names fit for files of text.
"""

from __future__ import annotations


class StfError(Exception):
    """An operation failed (for instance: the output folder cannot be written)."""

    exit_code = 1


class StorageError(StfError):
    """Nothing can be written where outputs go: it is full, read-only or out of reach."""


class UsageError(StfError):
    """The request itself does not make sense (unknown model, quality out of range, ...)."""

    exit_code = 2


class ImageError(StfError):
    """The picture cannot be read, or holds something this codec does not code."""

    exit_code = 3


class StreamError(StfError):
    """The data is not an .stf stream, or a damaged one."""

    exit_code = 4


class WeightsError(StfError):
    """Weights are missing, damaged, or not the ones a stream was made with."""

    exit_code = 5


def one_line(error: BaseException) -> str:
    """What another library's error says, on one line of at most 160 characters."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def storable(name: str) -> str:
    """A name as text that UTF-8 holds: bytes of a file's name that are no UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """Line breaks and other control characters escaped: what a terminal would act on."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
