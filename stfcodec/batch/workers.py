"""Runs a task over jobs in several processes, each of which codes one picture at a time.

A process that is killed, as the system does when memory is short, fails the file that it was
coding.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path

from stfcodec import files, temporary
from stfcodec.batch import pools
from stfcodec.batch.jobs import Failure, Job, Result
from stfcodec.batch.runner import Existing, one_by_one, output_exists
from stfcodec.batch.tasks import Task

OpenTask = Callable[[], AbstractContextManager[Task]]
"""Sets up a process, and gives the task that it runs. It is pickled."""

_Numbered = tuple[int, Job]


def useful_workers(jobs: Iterable[Job], wanted: int) -> int:
    """How many processes can share the jobs: `wanted`, fewer for fewer jobs, or 1.

    Standard streams and files that only this process has open are out of a worker's reach. Where
    names of outputs differ in case alone, they may be one file, which one process alone can tell.
    """
    jobs = list(jobs)
    names = [_folded(str(job.output)) for job in jobs if job.output is not None]
    paths = (place for job in jobs for place in (job.source, job.output))
    if (
        any(job.source is None for job in jobs)
        or any(isinstance(path, Path) and files.is_open_file(path) for path in paths)
        or len(set(names)) < len(names)
    ):
        return 1
    return max(1, min(wanted, len(jobs)))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def run_in_workers(
    jobs: Iterable[Job],
    open_task: OpenTask,
    count: int,
    existing: Existing = "refuse",
    preserve: bool = False,
) -> Generator[Result, None, None]:
    """As `runner.run`, in `count` processes. Closing the generator ends them.

    Raises StfError where the task cannot start, or every process was killed before it could.
    """
    waiting: deque[_Numbered] = deque()
    done: dict[int, Result] = {}
    for number, job in enumerate(jobs):
        if (result := output_exists(job, existing)) is None:
            waiting.append((number, job))
        else:
            done[number] = result
    total = len(waiting) + len(done)

    def take() -> _Numbered | None:
        return waiting.popleft() if waiting else None

    open_work = partial(_open_work, open_task, existing, preserve)
    found = pools.run_in_processes(take, open_work, count=min(count, len(waiting)), tidy=_tidy)
    with closing(found):
        for number in range(total):
            while number not in done:
                (place, job), outcome, _ = next(found)
                if isinstance(outcome, pools.Lost):
                    outcome = Result(job, failure=Failure(outcome.reason, 1))
                done[place] = outcome
            yield done.pop(number)


@contextmanager
def _open_work(
    open_task: OpenTask, existing: Existing, preserve: bool
) -> Iterator[Callable[[_Numbered], Result]]:
    with open_task() as task:
        task.prepare()
        code = one_by_one(task, existing, preserve)
        yield lambda numbered: code(numbered[1])


def _tidy(numbered: _Numbered) -> None:
    """Remove what a process that ended has left half-written."""
    _, job = numbered
    if isinstance(job.output, Path):
        temporary.remove_stale(job.output.parent)
