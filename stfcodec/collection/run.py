"""Leads a run over a collection: chunks go to workers, and what came of them to the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from stfcodec import storage, temporary
from stfcodec.batch import Existing, Failure, OpenTask, Result, pools
from stfcodec.batch.jobs import AnyJob
from stfcodec.batch.pools import Runner
from stfcodec.collection import manifest
from stfcodec.collection.chunks import Chunk, Chunks
from stfcodec.collection.hashes import HashSet
from stfcodec.collection.listing import Collection, Unit, identity, without_clashes
from stfcodec.collection.lock import locked
from stfcodec.collection.work import Way, open_work
from stfcodec.errors import StfError, StorageError, UsageError
from stfcodec.shards import RECORDS, SUFFIXES, Kind
from stfcodec.storage import Location, joined

_ATTEMPTS = 3
"""How often a chunk is tried whose worker is lost or fails with all of it."""

_STRIKES = 3
"""A worker that fails with so many whole chunks in turn gets no more."""


class Resumption(NamedTuple):
    """What a run does with what earlier ones recorded."""

    goes_on: bool = False
    """Do what is missing."""
    retries: bool = False
    """Do what failed, too."""


def run(
    collection: Collection,
    open_task: OpenTask,
    runner: Runner,
    settings: dict[str, Any],
    *,
    existing: Existing = "refuse",
    preserve: bool = False,
    resumption: Resumption = Resumption(),  # noqa: B008 - it cannot change
    shard_size: int | None = None,
    shard_kind: Kind = "tar",
) -> Generator[Result, None, None]:
    """Code a collection, yield a result for each picture, and record them in the manifest.

    settings: plain data that decides what the outputs hold. A run that resumes has to have those of
    the one before. shard_size: pack files into shards of so many.

    Raises UsageError where another run writes to the output, or an earlier one did and
    `resumption` says nothing of it, and StfError where the run cannot go on.
    """
    folder = joined(collection.output, RECORDS)
    collection.packs = shard_size is not None
    with locked(folder):
        if isinstance(folder, Path):
            temporary.remove_stale(folder)
        record = _record(collection, folder, settings, existing, resumption)
        writer = manifest.Writer(folder)
        lead = _Lead(collection, record, resumption, writer)
        chunks = Chunks(
            lead.units(),
            collection.output,
            may_have_outputs=resumption.goes_on,
            kind=shard_kind if shard_size else None,
            size=shard_size or 0,
            numbers=partial(next, _free_numbers(record.shards)),
        )
        way = Way(collection.naming, existing, preserve, manifest.began(folder))
        try:
            yield from lead.results(chunks, runner, partial(open_work, open_task, way))
        except BaseException:
            with suppress(StfError):
                writer.flush()
            raise
        writer.flush()


def _record(
    collection: Collection,
    folder: Path | Location,
    settings: dict[str, Any],
    existing: Existing,
    resumption: Resumption,
) -> manifest.Record:
    """What earlier runs recorded. Raises UsageError where this run does not fit to them."""
    parts = manifest.parts(folder)
    if not resumption.goes_on:
        if parts and existing != "replace":
            raise UsageError(
                f"{folder} is the record of an earlier run: --resume goes on with that, "
                f"--force begins anew"
            )
        _remove_packed(collection, folder)
        for part in parts:  # before it begins: what is left of them is of the earlier settings
            storage.remove(part)
        manifest.begin(folder, settings, anew=True)
        return manifest.Record()
    before = manifest.begin(folder, settings, anew=False)
    if changed := sorted(k for k in {**before, **settings} if before.get(k) != settings.get(k)):
        was = ", ".join(f"{name} {before.get(name)}" for name in changed)
        raise UsageError(f"the earlier run had {was}: give the same, or another -o ({folder})")
    return manifest.read(folder)


def _remove_packed(collection: Collection, folder: Path | Location) -> None:
    """Remove the shards that an earlier run packed files into: this one may write fewer."""
    try:
        numbers = manifest.read(folder).shards
    except StfError as error:
        collection.warn(str(folder), f"shards of the earlier run may be left: {error}")
        return
    for number in numbers:
        for suffix in SUFFIXES:
            storage.remove(joined(collection.output, f"shard-{number:06d}{suffix}"))


def _free_numbers(taken: set[int]) -> Iterator[int]:
    """Numbers of shards that no manifest has, the lowest first.

    A shard that a killed run wrote and did not record so gets its number, and its files, again.
    """
    return (number for number in count() if number not in taken)


def dry_run(collection: Collection, resumption: Resumption) -> Generator[Result, None, None]:
    """What `run` would take, by its name alone. Writes nothing."""
    folder = joined(collection.output, RECORDS)
    record = manifest.read(folder) if resumption.goes_on else manifest.Record()
    lead = _Lead(collection, record, resumption)
    for unit in lead.units():
        output = joined(collection.output, collection.output_of(unit))
        yield from lead.told()
        yield Result(AnyJob(unit.source, output), planned=True)
    yield from lead.told()


class _Lead:
    """What one run keeps in mind."""

    def __init__(
        self,
        collection: Collection,
        record: manifest.Record,
        resumption: Resumption,
        writer: manifest.Writer | None = None,
    ) -> None:
        self.collection = collection
        self.writer = writer
        self.refused: list[Result] = []
        """Results of what was listed and cannot be taken, which are still to be told."""
        self.strikes: Counter[str] = Counter()
        self.last_failure = ""
        self.open = 0
        """Chunks that were taken and are not settled."""
        self._done = HashSet(record.done)
        self._outputs = record.outputs
        self._failed = HashSet(None if resumption.retries else record.failed)

    def units(self) -> Iterator[Unit]:
        """What is to be coded."""
        outputs = HashSet(self._outputs)
        for unit in without_clashes(self._left(), self.collection, outputs):
            if _identity(unit) in self._failed:
                self.collection.failed_before += 1
            elif isinstance(unit, Result):
                self.refused.append(unit)
            else:
                yield unit

    def _left(self) -> Iterator[Unit | Result]:
        """What is not done yet, each once however often it is named."""
        sources = HashSet()
        for unit in self.collection.units():
            self.collection.found += 1
            name = _identity(unit)
            if not sources.add(name):
                self.collection.warn(name, "it is named twice, and taken once")
            elif name not in self._done:
                yield unit

    def accepts(self, worker: str) -> bool:
        return self.strikes[worker] < _STRIKES

    def results(
        self, chunks: Chunks, runner: Runner, work: pools.OpenWork[Chunk, list[Result]]
    ) -> Generator[Result, None, None]:
        """Give chunks to workers, and yield what comes of them.

        Raises StfError if workers are left to whom no chunk can be given.
        """
        first = chunks.take()  # before workers start: there may be nothing to do
        if first is not None:
            chunks.put_back(first)

            def take() -> Chunk | None:
                chunk = chunks.take()
                self.open += chunk is not None
                return chunk

            with closing(runner(take, work, self.accepts)) as found:
                for done in found:
                    self.open -= 1
                    yield from self._settle(done, chunks)
        yield from self.told()
        if self.open or chunks.take() is not None:
            raise StorageError(
                f"stopped, as all that was tried last failed: {self.last_failure}; once that is "
                f"mended, --resume goes on"
            )

    def _settle(self, done: pools.Done[Chunk, list[Result]], chunks: Chunks) -> Iterator[Result]:
        """Record what came of a chunk, or put it back."""
        yield from self.told()
        chunk, outcome, worker = done
        is_last = chunk.attempts + 1 == _ATTEMPTS
        if isinstance(outcome, pools.Lost):
            _tidy(chunk)
            if not is_last:
                for part in chunk.again().apart():
                    chunks.try_again(part)
                return
            outcome = _lost(chunk, outcome.reason)
        else:
            failures = [r.failure for r in outcome if r.failure and r.failure.of_storage]
            has_failed = bool(outcome) and len(failures) == len(outcome)
            self.strikes[worker] = self.strikes[worker] + 1 if has_failed else 0
            if failures:
                self.last_failure = failures[-1].message
            if failures and not is_last:
                chunk, outcome = _put_back(chunk, outcome, chunks)
        self._record(_rows(chunk, outcome, self.collection.output))
        yield from outcome

    def _record(self, rows: list[dict[str, Any]]) -> None:
        if self.writer is not None:
            self.writer.add(rows)

    def told(self) -> Iterator[Result]:
        """Results of what was refused: they are recorded, too."""
        refused, self.refused = self.refused, []
        self._record(
            [manifest.row(_identity(result), result, self.collection.output) for result in refused]
        )
        yield from refused


def _identity(unit: Unit | Result) -> str:
    """What the manifest calls the source of a unit, or of a result that stands for one."""
    if isinstance(unit, Unit):
        return unit.identity
    source = unit.job.source
    return identity(source) if isinstance(source, Path | Location) else unit.job.input_name


def _put_back(chunk: Chunk, results: list[Result], chunks: Chunks) -> tuple[Chunk, list[Result]]:
    """Let what storage did not take be tried again, and give the rest."""
    if chunk.output_kind is not None or len(results) != len(chunk.units):
        chunks.try_again(chunk.again())
        return replace(chunk, units=()), []
    pairs = list(zip(chunk.units, results, strict=True))
    again = [unit for unit, r in pairs if r.failure and r.failure.of_storage]
    rest = [(unit, r) for unit, r in pairs if not (r.failure and r.failure.of_storage)]
    chunks.try_again(replace(chunk.again(), units=tuple(again)))
    return replace(chunk, units=tuple(unit for unit, _ in rest)), [result for _, result in rest]


def _tidy(chunk: Chunk) -> None:
    """Remove what a worker that was lost has left half-written in local folders."""
    outputs = [chunk.output]
    if chunk.output_kind is None:
        outputs = [joined(chunk.output, unit.name) for unit in chunk.units]
    for folder in {output.parent for output in outputs if isinstance(output, Path)}:
        temporary.remove_stale(folder)


def _lost(chunk: Chunk, reason: str) -> list[Result]:
    failure = Failure(f"{reason}, {_ATTEMPTS} times", 1)
    return [Result(AnyJob(unit.source, chunk.output), failure=failure) for unit in chunk.units]


def _rows(chunk: Chunk, results: list[Result], folder: Path | Location) -> list[dict[str, Any]]:
    """Rows of results that say something: skipped ones do not."""
    sources = [unit.identity for unit in chunk.units]
    if chunk.units and chunk.units[0].kind is not None:
        if not results:
            return [manifest.empty_row(sources[0])]
        sources *= len(results)
    elif len(results) != len(sources):  # the chunk failed as a whole
        results = results[:1] * len(sources)
    pairs = zip(sources, results, strict=True)
    return [manifest.row(source, result, folder) for source, result in pairs if not result.skipped]
