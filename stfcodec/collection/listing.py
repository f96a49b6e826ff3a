"""What there is to code: files and shards, listed one by one."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from stfcodec import listing
from stfcodec.batch import AnyJob, Naming, Result, explain
from stfcodec.errors import StfError, UsageError, storable
from stfcodec.shards import RECORDS, SUFFIXES, Kind
from stfcodec.storage import Location, joined, place

if TYPE_CHECKING:
    from stfcodec.collection.hashes import HashSet

_LINKED = "a link to a folder, which -r does not follow; name it to take it"


PACKED = re.compile(r"shard-(\d{6,})\.(?:tar|parquet)")
"""Names of the shards that files are packed into."""


@dataclass(frozen=True)
class Unit:
    """A file, or a shard, that the run takes or leaves as a whole."""

    source: Path | Location
    name: str
    """Below the folder it was found in, with slashes."""
    kind: Kind | None = None
    """Of a shard."""
    unpacks: bool = False
    """The shard's pictures become files."""

    @property
    def identity(self) -> str:
        """What a manifest calls it: an absolute path, or a URL."""
        return identity(self.source)

    @cached_property
    def stem(self) -> str:
        return str(PurePosixPath(self.name).with_suffix(""))


def identity(source: Path | Location) -> str:
    """What a manifest calls a file: an absolute path, or a URL."""
    name = os.path.abspath(source) if isinstance(source, Path) else str(source)  # noqa: PTH100
    return storable(name)


@dataclass
class Collection:
    """Inputs and where they go. Counts grow, and warnings come, while units are listed."""

    inputs: tuple[str, ...]
    output: Path | Location
    naming: Naming
    recursive: bool = False
    unpacks: bool = False
    packs: bool = False
    """Files go to shards, whose names `PACKED` are taken."""
    left_out: Counter[str] = field(default_factory=Counter)
    found: int = 0
    """Units that were listed."""
    failed_before: int = 0
    """Units that an earlier run failed with, and this one leaves."""
    warn: Callable[[str, str], object] = lambda path, text: None

    def units(self) -> Iterator[Unit | Result]:
        """Every file and shard, or why it cannot be taken.

        Raises StfError where an input cannot be listed at all.
        """
        for given in self.inputs:
            root = place(given)
            if not self._is_folder(root):
                yield self._unit(root, root.name)
            elif self.recursive:
                yield from self._below(root)
            else:
                raise UsageError(f"{given} is a folder; add -r to take the files in it")

    def output_of(self, unit: Unit) -> str:
        """What the output of a unit is called, below the output folder."""
        if unit.kind is None:
            return str(self.naming.output(PurePosixPath(unit.name)))
        return unit.stem if unit.unpacks else unit.name

    def _is_folder(self, root: Path | Location) -> bool:
        if isinstance(root, Path):
            if not os.path.lexists(root):
                raise UsageError(f"{root} does not exist")
            return root.is_dir()
        return not (self._wants(PurePosixPath(root.name)) or root.is_on_the_web)

    def _below(self, root: Path | Location) -> Iterator[Unit | Result]:
        if isinstance(root, Location):
            yield from self._below_location(root)
            return
        for path, kind, reason in listing.walk(root, self._wants):
            name = path.relative_to(root).as_posix()
            if RECORDS in name.split("/"):
                continue
            if kind == "file" and not self._is_own(path):
                yield self._unit(path, name)
            elif kind == "left out":
                self._leave_out(path.name)
            elif kind == "linked folder":
                self.warn(str(path), _LINKED)
            elif kind == "refused":
                yield Result(AnyJob(path, self.output), failure=explain(StfError(reason)))

    def _below_location(self, root: Location) -> Iterator[Unit | Result]:
        for name in root.walk():
            found = root.joined(name)
            parts = PurePosixPath(name).parts
            if name.startswith("/") or "//" in name or ".." in parts:
                reason = "a name that leads out of the folder, or that no folder can hold"
                yield Result(AnyJob(found, self.output), failure=explain(StfError(reason)))
                continue
            is_hidden = any(part.startswith(".") or part == RECORDS for part in parts[:-1])
            if is_hidden or self._is_own(found):
                continue
            if parts[-1].startswith(".") or not self._wants(PurePosixPath(name)):
                self._leave_out(parts[-1])
            else:
                yield self._unit(found, name)

    def _unit(self, source: Path | Location, name: str) -> Unit:
        kind = SUFFIXES.get(source.suffix.lower())
        return Unit(source, name, kind, self.unpacks and kind is not None)

    def _wants(self, path: PurePath) -> bool:
        return self.naming.knows(path) or path.suffix.lower() in SUFFIXES

    def _is_own(self, found: Path | Location) -> bool:
        """Whether a file is a shard that a run into this output has written."""
        if found.suffix.lower() not in SUFFIXES:
            return False
        if isinstance(found, Path) and isinstance(self.output, Path):
            return found.resolve().is_relative_to(self.output.resolve())
        return str(found).startswith(f"{str(self.output).rstrip('/')}/")

    def _leave_out(self, name: str) -> None:
        kind = "hidden" if name.startswith(".") else PurePosixPath(name).suffix.lower()
        self.left_out[kind or "without suffix"] += 1


def without_clashes(
    units: Iterator[Unit | Result], collection: Collection, seen: HashSet
) -> Iterator[Unit | Result]:
    """Refuse whatever would get the output of something else. seen: outputs of others; it grows."""
    for unit in units:
        if isinstance(unit, Result):
            yield unit
            continue
        name = collection.output_of(unit)
        if collection.packs and unit.kind and not unit.unpacks and PACKED.fullmatch(name):
            text = f"{name} is the name of a shard that --shards writes; rename it, or leave it out"
            yield Result(AnyJob(unit.source, collection.output), failure=explain(UsageError(text)))
            continue
        if seen.add(storable(name)):
            yield unit
            continue
        output = joined(collection.output, name)
        can_keep = unit.kind is None and not collection.naming.keep_suffix
        advice = "--keep-suffix keeps them apart" if can_keep else "rename it or give another -o"
        text = f"would become {output}, as another file does; {advice}"
        yield Result(AnyJob(unit.source, output), failure=explain(UsageError(text)))
