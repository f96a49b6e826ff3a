"""What tests of the command line share: outcomes of commands, pipes and the one-line error."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from stfcodec import __version__

WIDTH, HEIGHT = 50, 34
"""Of the pictures that the fixtures make."""

NOTE = f"files may need stfcodec {__version__} to be decoded"


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Outcome]


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def one_error(outcome: Outcome, code: int, *words: str) -> None:
    """The command failed as promised: exit code, one line on stderr, nothing on stdout."""
    assert (outcome.code, outcome.out) == (code, b"")
    (line,) = outcome.err.splitlines()
    assert line.startswith("stfcodec: error: ")
    for word in words:
        assert word in line
