"""Runs a task over jobs: the calling thread codes, others read ahead and save."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from threading import Thread
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from stfcodec import files, temporary
from stfcodec.batch.jobs import AnyJob, Failure, Result, explain
from stfcodec.batch.tasks import Coded, Task
from stfcodec.errors import UsageError
from stfcodec.storage import Source

AHEAD = 2
"""Pictures held in memory beside the one being coded."""

_SAVING_S, _READING_S = 10.0, 0.5
"""Seconds that an interrupted run waits for its threads. They may wait for a pipe for ever."""

Existing = Literal["refuse", "replace", "skip"]
"""What happens to a job whose output exists, before the run or by the time that it is saved."""

T = TypeVar("T")


class _Loaded(NamedTuple):
    """What the task codes of an input, and facts of the input's file."""

    item: Any
    bytes: int
    checksum: str
    attributes: os.stat_result | None


def run(
    jobs: Iterable[AnyJob],
    task: Task,
    existing: Existing = "refuse",
    preserve: bool = False,
    tidy: set[Path] | None = None,
) -> Generator[Result, None, None]:
    """Code every job and yield one result each, in the order of `jobs`.

    A job's failure becomes its result. At most AHEAD inputs wait in memory, and one output is
    being saved, while another is coded. preserve: outputs get the times and permission bits of
    their sources. tidy: folders in which nothing of killed runs is left; it grows. Raises StfError
    where `task` cannot start at all. What it needs, which takes seconds, is loaded once there is a
    job that looks feasible.
    """
    upcoming = iter(jobs)
    before: os.stat_result | None = None  # of the first input, before a look changes its times
    for job in upcoming:
        before = _attributes(job.source)
        try:
            _look(task, job, existing)
        except Exception as error:
            yield Result(job, failure=_failure(error, existing))
        else:
            upcoming = chain([job], upcoming)
            task.prepare()
            break
    reading: deque[tuple[AnyJob, _Call[_Loaded]]] = deque()
    saver = _Saver(task, existing, preserve, tidy)
    saving: _Call[Result] | None = None
    try:
        while True:
            for job in islice(upcoming, AHEAD + 1 - len(reading)):
                reading.append((job, _Call(_load, task, job, existing, before)))
                before = None
            if not reading:
                break
            job, call = reading[0]
            coded = _code(task, call.result, existing)
            reading.popleft()
            if saving is not None:
                yield saving.result()
            saving = _Call(saver.save, job, coded)
            del coded
        if saving is not None:
            yield saving.result()
    finally:
        if saving is not None:
            saving.join(_SAVING_S)
        for _, call in reading:
            call.join(_READING_S)


def one_by_one(
    task: Task, existing: Existing = "refuse", preserve: bool = False
) -> Callable[[AnyJob], Result]:
    """What codes a job, as `run` does, with nothing beside the coding.

    task: one that is prepared.
    """
    saver = _Saver(task, existing, preserve)
    return lambda job: saver.save(job, _code(task, partial(_load, task, job, existing), existing))


def output_exists(job: AnyJob, existing: Existing) -> Result | None:
    """The result of a job whose output exists and is kept; None for other jobs."""
    try:
        _check_output(job, existing)
    except UsageError as error:
        return Result(job, failure=_failure(error, existing))
    return None


def dry_run(
    jobs: Iterable[AnyJob], task: Task, existing: Existing = "refuse"
) -> Generator[Result, None, None]:
    """What `run` would do, as far as names and the first bytes of files tell. Writes nothing."""
    for job in jobs:
        try:
            _look(task, job, existing)
        except Exception as error:
            yield Result(job, failure=_failure(error, existing))
        else:
            yield Result(job, planned=True)


class _Call(Thread, Generic[T]):
    """A call in a thread of its own, which a program that is interrupted may leave behind."""

    def __init__(self, function: Callable[..., T], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self._function: Callable[[], T] | None = partial(function, *arguments)
        self._value: list[T] = []
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        assert self._function is not None
        try:
            self._value.append(self._function())
        except BaseException as error:
            self._error = error
        self._function = None  # it holds the arguments

    def result(self) -> T:
        """What the call returned, once it has; raises what it raised. To be asked for once."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._value.pop()


def _look(task: Task, job: AnyJob, existing: Existing) -> None:
    """Raise StfError where the names or the first bytes of a job's files forbid it."""
    _check_output(job, existing)
    if isinstance(job.source, Path):
        files.check_input(job.source, task.check)


def _check_output(job: AnyJob, existing: Existing) -> None:
    """Raise OutputExistsError if the output exists and is kept."""
    if isinstance(job.output, Path):
        files.check_output(job.output, overwrite=existing == "replace")
    elif job.output is not None:
        job.output.check_output(overwrite=existing == "replace")


def _load(
    task: Task, job: AnyJob, existing: Existing, attributes: os.stat_result | None = None
) -> _Loaded:
    """Read one input. Raises OutputExistsError if its output exists and is kept.

    attributes: of the input's file, where it has been read already.
    """
    _check_output(job, existing)
    source, limit = job.source, task.limits.bytes
    attributes = attributes or _attributes(source)  # before reading changes the access time
    if source is None:
        data = files.read_standard_input(limit, task.check)
    elif isinstance(source, Path):
        data = files.read_bytes(source, limit, task.check)
    else:
        data = source.read_bytes(limit, task.check)
    return _Loaded(task.unpack(data), len(data), hashlib.sha256(data).hexdigest(), attributes)


def _attributes(source: Path | Source | None) -> os.stat_result | None:
    """Those that an output may be given. A pipe's say nothing of the picture."""
    if not isinstance(source, Path):
        return None
    try:
        status = source.stat()
    except OSError:  # reading tells why
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _code(task: Task, load: Callable[[], _Loaded], existing: Existing) -> Coded | Failure | None:
    """Code what `_load` gives. None stands for a job that is skipped."""
    try:
        item, input_bytes, checksum, attributes = load()
        start = time.perf_counter()
        coded = task.code(item)
    except Exception as error:
        return _failure(error, existing)
    seconds = time.perf_counter() - start
    return replace(
        coded,
        input_bytes=input_bytes,
        checksum=checksum,
        attributes=attributes,
        seconds=seconds,
    )


def _failure(error: Exception, existing: Existing) -> Failure | None:
    """None if the error is that an output exists, and such jobs are skipped."""
    if existing == "skip" and isinstance(error, files.OutputExistsError):
        return None
    return explain(error)


class _Saver:
    """Saves outputs, and removes what killed runs left in the folders that it saves to."""

    def __init__(
        self,
        task: Task,
        existing: Existing,
        preserve: bool,
        tidy: set[Path] | None = None,
    ) -> None:
        self._task = task
        self._existing = existing
        self._preserve = preserve
        self._tidy = set() if tidy is None else tidy
        self._saved: set[object] = set()

    def save(self, job: AnyJob, coded: Coded | Failure | None) -> Result:
        if coded is None or isinstance(coded, Failure):
            return Result(job, failure=coded)
        try:
            data, notes = self._task.pack(coded)
            if data is not None:
                self._put(job, data, coded.attributes)
        except Exception as error:
            return Result(job, failure=_failure(error, self._existing))
        written = 0 if data is None else len(data)
        notes = coded.notes + notes
        return Result(
            job,
            coded.info,
            coded.input_bytes,
            written,
            coded.seconds,
            notes,
            size=coded.size,
            checksum=coded.checksum,
            psnr=coded.psnr,
        )

    def _put(self, job: AnyJob, data: bytes, attributes: os.stat_result | None) -> None:
        if job.output is None:
            files.write_standard_output(data)
        elif isinstance(job.output, Path):
            self._write(job.output, data, job.source, attributes)
        else:
            job.output.write_bytes(data, overwrite=self._existing == "replace")

    def _write(
        self,
        output: Path,
        data: bytes,
        source: Path | Source | None,
        attributes: os.stat_result | None,
    ) -> None:
        if files.is_open_file(output):
            files.write_bytes(output, data, overwrite=True)
            return
        files.make_folder(output.parent)
        if output.parent not in self._tidy:
            temporary.remove_stale(output.parent)
            self._tidy.add(output.parent)
        if files.identity(output) in self._saved:  # a file system that ignores case
            raise UsageError(f"{output} is the output of another file of this run; rename one")
        overwrite = self._existing == "replace"
        attributes = attributes if self._preserve else None
        like = [source] if isinstance(source, Path) else []
        files.write_bytes(output, data, overwrite, like, attributes)
        self._saved.add(files.identity(output))
