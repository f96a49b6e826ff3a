"""Runs a task over jobs: the calling thread codes, others read ahead and save."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, Generic, Literal, TypeVar

from stfcodec import files, temporary
from stfcodec.batch.jobs import Failure, Job, Result, explain
from stfcodec.batch.tasks import Coded, Task
from stfcodec.errors import UsageError

AHEAD = 2
"""Pictures held in memory beside the one being coded."""

_SAVING_S, _READING_S = 10.0, 0.5
"""Seconds that an interrupted run waits for its threads. They may wait for a pipe for ever."""

Existing = Literal["refuse", "replace", "skip"]
"""What happens to a job whose output exists, before the run or by the time that it is saved."""

T = TypeVar("T")


def run(
    jobs: Iterable[Job], task: Task, existing: Existing = "refuse"
) -> Generator[Result, None, None]:
    """Code every job and yield one result each, in the order of `jobs`.

    A job's failure becomes its result. At most AHEAD inputs wait in memory, and one output is
    being saved, while another is coded. Raises StfError where `task` cannot start at all.
    """
    task.prepare()
    upcoming = iter(jobs)
    reading: deque[tuple[Job, _Call[tuple[Any, int]]]] = deque()
    saver = _Saver(task, existing)
    saving: _Call[Result] | None = None
    try:
        while True:
            for job in islice(upcoming, AHEAD + 1 - len(reading)):
                reading.append((job, _Call(_load, task, job, existing)))
            if not reading:
                break
            job, call = reading[0]
            coded = _code(task, call, existing)
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


def _load(task: Task, job: Job, existing: Existing) -> tuple[Any, int]:
    """Read one input: what the task codes of it, and its bytes' number.

    Raises OutputExistsError if its output exists and is kept.
    """
    if job.output is not None:
        files.check_output(job.output, overwrite=existing == "replace")
    if job.source is None:
        data = files.read_standard_input(task.limits.bytes, task.check)
    else:
        data = files.read_bytes(job.source, task.limits.bytes, task.check)
    return task.unpack(data), len(data)


def _code(task: Task, call: _Call[tuple[Any, int]], existing: Existing) -> Coded | Failure | None:
    """Code what a call of `_load` gives. None stands for a job that is skipped."""
    try:
        item, input_bytes = call.result()
        start = time.perf_counter()
        coded = task.code(item)
    except Exception as error:
        return _failure(error, existing)
    return replace(coded, input_bytes=input_bytes, seconds=time.perf_counter() - start)


def _failure(error: Exception, existing: Existing) -> Failure | None:
    """None if the error is that an output exists, and such jobs are skipped."""
    if existing == "skip" and isinstance(error, files.OutputExistsError):
        return None
    return explain(error)


class _Saver:
    """Saves outputs, and removes what killed runs left in the folders that it saves to."""

    def __init__(self, task: Task, existing: Existing) -> None:
        self._task = task
        self._existing = existing
        self._tidy: set[Path] = set()
        self._saved: set[object] = set()

    def save(self, job: Job, coded: Coded | Failure | None) -> Result:
        if coded is None or isinstance(coded, Failure):
            return Result(job, failure=coded)
        try:
            data, notes = self._task.pack(coded)
            if job.output is None:
                files.write_standard_output(data)
            else:
                self._write(job.output, data, job.source)
        except Exception as error:
            return Result(job, failure=_failure(error, self._existing))
        notes = coded.notes + notes
        return Result(
            job, coded.info, coded.input_bytes, coded.seconds, notes, output_bytes=len(data)
        )

    def _write(self, output: Path, data: bytes, source: Path | None) -> None:
        if files.is_open_file(output):
            files.write_bytes(output, data, overwrite=True)
            return
        files.make_folder(output.parent)
        if output.parent not in self._tidy:
            temporary.remove_stale(output.parent)
            self._tidy.add(output.parent)
        if files.identity(output) in self._saved:  # a file system that ignores case
            raise UsageError(f"{output} is the output of another file of this run; rename one")
        files.write_bytes(output, data, overwrite=self._existing == "replace", like=[source])
        self._saved.add(files.identity(output))
