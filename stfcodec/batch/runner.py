"""Runs a task over jobs: the calling thread codes, others read ahead and save."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Literal

from stfcodec import files
from stfcodec.batch.jobs import Failure, Job, Result, explain
from stfcodec.batch.tasks import Coded, Task
from stfcodec.errors import UsageError

AHEAD = 2
"""Pictures held in memory beside the one being coded."""

Existing = Literal["refuse", "replace", "skip"]
"""What happens to a job whose output exists."""


def run(jobs: Iterable[Job], task: Task, existing: Existing = "refuse") -> Iterator[Result]:
    """Code every job and yield one result each, in the order of `jobs`.

    A job's failure becomes its result. At most AHEAD inputs wait in memory, and one output is
    being saved, while another is coded. Raises StfError where `task` cannot start at all.
    """
    task.prepare()
    upcoming = iter(jobs)
    with ThreadPoolExecutor(max_workers=AHEAD + 1) as pool:
        # The first input is read in this thread, where Ctrl-C ends a wait for a silent pipe.
        waiting: deque[tuple[Job, Callable[[], Any]]] = deque(
            (job, partial(_load, task, job, existing)) for job in islice(upcoming, 1)
        )
        saving: Future[Result] | None = None
        while waiting:
            job, load = waiting.popleft()
            for later in islice(upcoming, AHEAD - len(waiting)):
                waiting.append((later, pool.submit(_load, task, later, existing).result))
            coded = _code(task, load)
            del load  # it holds the picture
            if saving is not None:
                yield saving.result()
            saving = pool.submit(_save, task, job, coded, existing)
            del coded
        if saving is not None:
            yield saving.result()


def _load(task: Task, job: Job, existing: Existing) -> Any:
    """Read one input; None if its output exists and is kept."""
    if job.target is not None and job.target.is_file():  # a device or pipe can be written to
        if existing == "skip":
            return None
        if existing == "refuse":
            raise UsageError(f"output {job.output} exists already; use --force to replace it")
    source = files.STANDARD_STREAM if job.source is None else job.source
    return task.unpack(files.read_bytes(source, task.limits.bytes, task.check))


def _code(task: Task, load: Callable[[], Any]) -> Coded | Failure | None:
    try:
        item = load()
        if item is None:
            return None
        start = time.perf_counter()
        coded = task.code(item)
    except Exception as error:
        return explain(error)
    return replace(coded, seconds=time.perf_counter() - start)


def _save(task: Task, job: Job, coded: Coded | Failure | None, existing: Existing) -> Result:
    if coded is None or isinstance(coded, Failure):
        return Result(job, failure=coded)
    try:
        data, notes = task.pack(coded)
        if job.target is None:
            files.write_bytes(files.STANDARD_STREAM, data, overwrite=True)
        else:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(job.target, data, overwrite=existing == "replace")
    except Exception as error:
        return Result(job, failure=explain(error))
    return Result(job, coded.info, coded.seconds, coded.notes + notes)
