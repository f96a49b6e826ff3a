"""What a worker does with a chunk: it codes pictures from files or a shard to files or a shard."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from stfcodec import files, shards, storage, temporary
from stfcodec.batch import AnyJob, Existing, Naming, OpenTask, Result, Task, explain, run
from stfcodec.collection.chunks import Chunk
from stfcodec.collection.hashes import HashSet
from stfcodec.errors import UsageError
from stfcodec.shards import Sample
from stfcodec.storage import Location, joined


@dataclass(frozen=True)
class Part:
    """A file in a shard."""

    shard: str
    key: str

    def __str__(self) -> str:
        return f"{self.shard}/{self.key}"


@dataclass(frozen=True)
class _Read(Part):
    """A file that was read from a shard."""

    data: bytes = field(repr=False, default=b"")

    def read_bytes(self, limit: int, check: files.Check) -> bytes:
        if len(self.data) > limit:
            raise files.TooLongError(f"{self} has more than {limit} bytes, the most that is read")
        check(self.data[: files.HEAD])
        return self.data


@dataclass(frozen=True)
class _ToWrite(Part):
    """A file that a shard will get."""

    pending: _Pending = field(repr=False, default_factory=lambda: _Pending())
    field_name: str = ""
    is_taken: bool = False
    """Another file of the sample has the name."""

    def check_output(self, overwrite: bool) -> None:
        """A new shard has nothing that could be replaced."""
        if self.is_taken:
            raise _taken(self)

    def write_bytes(self, data: bytes, overwrite: bool) -> None:
        self.pending.coded[self.field_name] = data


@dataclass(frozen=True)
class _Taken:
    """The output of a picture whose name another one of its shard has."""

    name: str

    def __str__(self) -> str:
        return self.name

    def check_output(self, overwrite: bool) -> None:
        raise _taken(self)

    def write_bytes(self, data: bytes, overwrite: bool) -> None:
        self.check_output(overwrite)


def _taken(output: object) -> UsageError:
    advice = "--keep-suffix keeps them apart, if they differ in that"
    return UsageError(f"{output} is the output of another picture of the shard; {advice}")


@dataclass
class _Pending:
    """A sample of which some files are still to be coded."""

    sample: Sample | None = None
    waiting: int = 0
    coded: dict[str, bytes] = field(default_factory=dict)
    has_failed: bool = False


@dataclass(frozen=True)
class Way:
    """How a run codes: the same for all chunks. It is pickled."""

    naming: Naming
    existing: Existing
    preserve: bool
    began: float | None
    """When the first run began, in seconds by the clock of the storage. What was written there
    since then, and is not recorded, is of a run or a worker that was killed."""

    def output_of(self, name: str) -> str:
        """What the output of a file is called."""
        return str(self.naming.output(PurePosixPath(name)))

    def is_left_over(self, output: Path | Location) -> bool:
        """Whether a file was written by a run or a worker that was killed."""
        written = storage.modified(output, self.preserve)
        return written is not None and self.began is not None and written >= self.began


@contextmanager
def open_work(open_task: OpenTask, way: Way) -> Iterator[Callable[[Chunk], list[Result]]]:
    """Load what the task needs, and give what codes a chunk. Raises StfError."""
    with open_task() as task:
        task.prepare()
        tidy: set[Path] = set()
        yield lambda chunk: _code(chunk, task, way, tidy)


def _code(chunk: Chunk, task: Task, way: Way, tidy: set[Path]) -> list[Result]:
    """The results of all pictures in a chunk, or one where it fails as a whole."""
    if chunk.attempts:
        tidy.clear()  # the worker before has left something half-written, wherever that was
    try:
        if chunk.output_kind is not None:
            return _into_shard(chunk, task, way, tidy)
        if chunk.units[0].kind is not None:
            found = run(_unpacked(chunk, way), task, way.existing, tidy=tidy)
            return [_strip(result) for result in found]
        return list(run(_jobs(chunk, way), task, way.existing, way.preserve, tidy))
    except Exception as error:  # of a library, or a bug: the other chunks are coded
        source = chunk.units[0].source if len(chunk.units) == 1 else chunk.output
        return [Result(AnyJob(source, chunk.output), failure=explain(error))]


def _jobs(chunk: Chunk, way: Way) -> Iterator[AnyJob]:
    """A job for each file of a chunk, whose output is a file, too."""
    for unit in chunk.units:
        yield AnyJob(unit.source, _output(chunk, way, unit.name))


def _output(chunk: Chunk, way: Way, name: str) -> Path | Location:
    """Where the output of a file goes. What a killed worker has left there is removed."""
    output = joined(chunk.output, way.output_of(name))
    if chunk.may_have_outputs and way.existing != "replace" and way.is_left_over(output):
        storage.remove(output)
    return output


def _unpacked(chunk: Chunk, way: Way) -> Iterator[AnyJob]:
    """A job for each picture in a shard, whose output is a file."""
    shard, kind = chunk.units[0].source, chunk.units[0].kind
    assert kind is not None
    outputs = HashSet()
    with shards.reading(shard) as reader:
        for sample in reader.samples:
            for name_in_sample, name in sample.files(way.naming.suffixes).items():
                source = _Read(str(shard), name, sample.data(name_in_sample))
                name = shards.name_of_file(name, kind)
                output = joined(chunk.output, way.output_of(name))
                if outputs.add(str(output)):
                    yield AnyJob(source, _output(chunk, way, name))
                else:
                    yield AnyJob(source, _Taken(str(output)))


def _into_shard(chunk: Chunk, task: Task, way: Way, tidy: set[Path]) -> list[Result]:
    """Code a chunk into one shard. Raises StfError where a shard cannot be read or written."""
    overwrite = way.existing == "replace"
    if chunk.may_have_outputs:
        overwrite |= way.is_left_over(chunk.output)
    if isinstance(chunk.output, Path):
        files.check_output(chunk.output, overwrite)
        files.make_folder(chunk.output.parent)
        if chunk.output.parent not in tidy:
            temporary.remove_stale(chunk.output.parent)
            tidy.add(chunk.output.parent)
        with files.atomic_write(chunk.output, overwrite) as file:
            return _fill(file, chunk, task, way)
    chunk.output.check_output(overwrite)
    with tempfile.TemporaryDirectory(prefix="stf-") as folder:
        path = Path(folder) / chunk.output.name
        with files.atomic_write(path, overwrite=False) as file:
            results = _fill(file, chunk, task, way)
        chunk.output.write_file(path, overwrite)
    return results


def _fill(file: BinaryIO, chunk: Chunk, task: Task, way: Way) -> list[Result]:
    if chunk.units[0].kind is None:
        return _pack(file, chunk, task, way)
    with shards.reading(chunk.units[0].source) as reader:
        return _convert(file, reader, chunk, task, way)


def _pack(file: BinaryIO, chunk: Chunk, task: Task, way: Way) -> list[Result]:
    """Files into a shard."""
    kind = chunk.output_kind
    assert kind is not None
    results = []
    with shards.writing(file, kind) as shard:
        jobs = (
            AnyJob(unit.source, _ToWrite(str(chunk.output), way.output_of(unit.name)))
            for unit in chunk.units
        )
        for result in run(jobs, task):
            target = cast("_ToWrite", result.job.output)
            if result.failure is None:
                shard.write(shards.sample_of_file(target.key, target.pending.coded[""], kind))
            results.append(_strip(result))
    return results


def _convert(
    file: BinaryIO, reader: shards.Reader, chunk: Chunk, task: Task, way: Way
) -> list[Result]:
    """A shard into a shard. A sample of which a file cannot be coded is left out."""
    kind = chunk.output_kind
    assert kind is not None
    source, output = str(chunk.units[0].source), str(chunk.output)
    queue: deque[_Pending] = deque()

    def jobs() -> Iterator[AnyJob]:
        for sample in reader.samples:
            found = sample.files(way.naming.suffixes)
            pending = _Pending(sample, len(found))
            queue.append(pending)
            taken = sample.fields.keys() - found.keys() if sample.row is None else set()
            for name_in_sample, name in found.items():
                read = _Read(source, name, sample.data(name_in_sample))
                new = shards.renamed(name_in_sample, way.output_of)
                is_taken = sample.row is None and new in taken
                taken.add(new)
                coded = way.output_of(name)
                yield AnyJob(read, _ToWrite(output, coded, pending, name_in_sample, is_taken))

    results = []
    columns = reader.new_columns(way.naming.suffixes, way.output_of)
    with shards.writing(file, kind, reader.schema, columns) as shard:
        for result in run(jobs(), task):
            pending = cast("_ToWrite", result.job.output).pending
            pending.waiting -= 1
            pending.has_failed |= result.failure is not None
            results.append(_strip(result))
            _write_complete(queue, shard, way)
        _write_complete(queue, shard, way)
    return results


def _write_complete(queue: deque[_Pending], shard: shards.Writer, way: Way) -> None:
    """Write the samples at the head of the queue that wait for nothing."""
    while queue and not queue[0].waiting:
        pending = queue.popleft()
        sample = pending.sample
        if pending.has_failed or sample is None:
            continue
        for name, data in pending.coded.items():
            sample = sample.with_file(name, data, way.output_of)
        shard.write(sample)


def _strip(result: Result) -> Result:
    """A result that no longer holds what was read and written."""
    source, output = result.job.source, result.job.output
    if isinstance(source, Part):
        source = cast("storage.Source", Part(source.shard, source.key))
    if isinstance(output, Part):
        output = cast("storage.Sink", Part(output.shard, output.key))
    return replace(result, job=AnyJob(source, output))
