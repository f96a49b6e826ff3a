"""Chunks: what a worker takes at a time. They are plain data, which is pickled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from stfcodec.collection.listing import Unit
from stfcodec.shards import Kind
from stfcodec.storage import Location, joined

LARGEST = 16
"""Files of a chunk that go to files."""

_SHARE = 64
"""A chunk has one file of so many that are known to come: so the last chunks are small ones."""

AHEAD = LARGEST * _SHARE
"""Units that are known beforehand."""


@dataclass(frozen=True)
class Chunk:
    """Units that go through one worker: some files, or one shard.

    output: the folder that files are written below, or the shard that all of them go to.
    """

    units: tuple[Unit, ...]
    output: Path | Location
    output_kind: Kind | None = None
    """Of the output, if it is a shard."""
    may_have_outputs: bool = False
    """A worker that was lost, or a run that was killed, may have written some of the outputs."""
    attempts: int = 0
    """How often it was tried."""

    def again(self) -> Chunk:
        """The chunk that is to be tried after this one."""
        return replace(self, attempts=self.attempts + 1, may_have_outputs=True)

    def apart(self) -> list[Chunk]:
        """A chunk for each unit, where they can be told apart: one of them may be a killer."""
        if self.output_kind is not None:
            return [self]
        return [replace(self, units=(unit,)) for unit in self.units]


class Chunks:
    """Makes chunks of units as they come, and keeps those that are to be tried again."""

    def __init__(
        self,
        units: Iterable[Unit],
        output: Path | Location,
        may_have_outputs: bool = False,
        kind: Kind | None = None,
        size: int = 0,
        numbers: Callable[[], int] | None = None,
    ) -> None:
        """kind, size: of the shards that files go to; None: they go to files. numbers: gives the
        numbers of new shards."""
        self._units = iter(units)
        self._output = output
        self._may_have_outputs = may_have_outputs
        self._kind = kind
        self._size = size
        self._numbers = numbers
        self._ahead: deque[Unit] = deque()
        self._loose: list[Unit] = []
        self._again: deque[Chunk] = deque()
        self._back: Chunk | None = None

    def try_again(self, chunk: Chunk) -> None:
        """Put a chunk behind the new ones: what made it fail may be over by then."""
        self._again.append(chunk)

    def put_back(self, chunk: Chunk) -> None:
        """Let a chunk be the next again."""
        self._back = chunk

    def take(self) -> Chunk | None:
        """The next chunk; None where there is none at present."""
        if self._back is not None:
            chunk, self._back = self._back, None
            return chunk
        new = self._pack() if self._kind is not None else self._gather()
        if new is None and self._again:
            return self._again.popleft()
        return new

    def _gather(self) -> Chunk | None:
        """Some files, or a shard."""
        self._ahead.extend(islice(self._units, AHEAD - len(self._ahead)))
        if not self._ahead:
            return None
        size = max(1, min(LARGEST, len(self._ahead) // _SHARE))
        units: list[Unit] = []
        while self._ahead and len(units) < size:
            if self._ahead[0].kind is not None:
                if not units:
                    return self._of_shard(self._ahead.popleft())
                break
            units.append(self._ahead.popleft())
        return Chunk(tuple(units), self._output, may_have_outputs=self._may_have_outputs)

    def _pack(self) -> Chunk | None:
        """A shard, or the files that make one."""
        assert self._numbers is not None
        for unit in self._units:
            if unit.kind is not None:
                return self._of_shard(unit)
            self._loose.append(unit)
            if len(self._loose) == self._size:
                break
        if not self._loose:
            return None
        units, self._loose = tuple(self._loose), []
        name = f"shard-{self._numbers():06d}.{self._kind}"
        return Chunk(units, joined(self._output, name), self._kind, self._may_have_outputs)

    def _of_shard(self, unit: Unit) -> Chunk:
        if unit.unpacks:
            return Chunk((unit,), joined(self._output, unit.stem), None, self._may_have_outputs)
        return Chunk((unit,), joined(self._output, unit.name), unit.kind, self._may_have_outputs)
