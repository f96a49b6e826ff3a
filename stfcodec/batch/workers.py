"""Runs a task over jobs in several processes, each of which codes one picture at a time.

A process that is killed, as the system does when memory is short, fails the file that it was
coding. Another process takes its place. multiprocessing is imported where processes are started, as
most commands start none.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import unicodedata
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from stfcodec import files, temporary
from stfcodec.batch.jobs import Failure, Job, Result, explain
from stfcodec.batch.runner import Existing, output_exists, run_serially
from stfcodec.batch.tasks import Task
from stfcodec.errors import StfError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

OpenTask = Callable[[], AbstractContextManager[Task]]
"""Sets up a process, and gives the task that it runs. It is pickled."""

_STOPPING_S, _ENDING_S = 1.0, 10.0
"""Seconds that a worker gets to end: in the midst of its work, and after it."""

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGTERM") if hasattr(signal, name)
]

_ADVICE = "if memory is short, use fewer --workers"


def useful_workers(jobs: Iterable[Job], wanted: int) -> int:
    """How many processes can share the jobs: `wanted`, fewer for fewer jobs, or 1.

    Standard streams and files that only this process has open are out of a worker's reach. Where
    names of outputs differ in case alone, they may be one file, which one process alone can tell.
    """
    jobs = list(jobs)
    names = [_folded(str(job.output)) for job in jobs if job.output is not None]
    paths = (path for job in jobs for path in (job.source, job.output) if path is not None)
    if (
        any(job.source is None for job in jobs)
        or any(files.is_open_file(path) for path in paths)
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
    """As `run`, in `count` processes. Closing the generator ends them.

    Raises StfError where the task cannot start, or every process was killed before it could.
    """
    waiting: deque[tuple[int, Job]] = deque()
    workers: list[_Worker] = []
    done: dict[int, Result] = {}
    for number, job in enumerate(jobs):
        if (result := output_exists(job, existing)) is None:
            waiting.append((number, job))
        else:
            done[number] = result

    def start() -> None:
        with _signals_held_back():
            workers.append(_Worker(open_task, existing, preserve))

    try:
        for _ in range(min(count, len(waiting))):
            start()
        for number in range(len(waiting) + len(done)):
            while number not in done:
                if not workers:
                    raise StfError(f"every worker process was killed at its start; {_ADVICE}")
                for worker in _that_tell(workers):
                    done |= worker.receive()
                    if worker.is_alive:
                        worker.give(waiting.popleft() if waiting else None)
                        continue
                    workers.remove(worker)
                    if worker.job is not None and waiting:
                        start()
            yield done.pop(number)
        for worker in workers:  # there is no other job, so they end
            worker.process.join(_ENDING_S)
    finally:
        _stop(workers)


class _Worker:
    """A process that codes, as seen from the process that started it."""

    def __init__(self, open_task: OpenTask, existing: Existing, preserve: bool) -> None:
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_work, args=(theirs, open_task, existing, preserve), daemon=True
        )
        self.process.start()
        theirs.close()  # so that the connection ends with the process
        self.job: tuple[int, Job] | None = None
        """What the process codes, or coded when it ended, with its number."""
        self.is_alive = True

    def give(self, job: tuple[int, Job] | None) -> None:
        """Let the process code a job, or end."""
        self.job = job
        with suppress(OSError):  # it has ended, which `receive` finds
            self.connection.send(job and job[1])

    def receive(self) -> dict[int, Result]:
        """What the process tells: the result of its job, or nothing where it had none.

        Raises StfError where it cannot start.
        """
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.is_alive = False
            self.end(_ENDING_S)
            return {} if self.job is None else {self.job[0]: self._lost(self.job[1])}
        if isinstance(message, Failure):
            error = StfError(message.message)
            error.exit_code = message.exit_code
            raise error
        return {} if self.job is None else {self.job[0]: message}

    def _lost(self, job: Job) -> Result:
        code = self.process.exitcode or 0
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        text = f"its worker process ended with {how}; {_ADVICE}"
        return Result(job, failure=Failure(text, 1))

    def end(self, seconds: float) -> None:
        """Give the process some time to end, and remove what it leaves half-written."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        self.connection.close()
        if self.job is not None and self.job[1].output is not None:
            temporary.remove_stale(self.job[1].output.parent)


def _that_tell(workers: list[_Worker]) -> list[_Worker]:
    """The workers that have something to tell, waiting for the first."""
    from multiprocessing.connection import wait

    found = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in found]


def _stop(workers: list[_Worker]) -> None:
    """End processes, as soon as they have removed what is half-written."""
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + _STOPPING_S
    for worker in workers:
        worker.end(max(0.0, until - time.monotonic()))


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Processes that are started inside begin with these signals blocked, until they handle them.

    Otherwise Ctrl-C would end them with a traceback while Python starts.
    """
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # the first start would do so, and unblock signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _handle_signals() -> None:
    """SIGTERM ends this process. Those of a terminal reach the process that started it, too."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in _SIGNALS:
        signal.signal(number, stop if number == signal.SIGTERM else signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _work(connection: Connection, open_task: OpenTask, existing: Existing, preserve: bool) -> None:
    """Run in a worker process: tell when it is ready, then code one job after another."""
    _handle_signals()
    if not os.environ.get("STFCODEC_DEBUG"):
        warnings.simplefilter("ignore")  # as in the process of the command
    with suppress(EOFError, OSError), ExitStack() as stack:  # the command was killed
        try:
            task = stack.enter_context(open_task())
            task.prepare()
        except Exception as error:
            connection.send(explain(error))
            return
        connection.send(None)
        jobs: Iterator[Job] = iter(connection.recv, None)
        for result in run_serially(jobs, task, existing, preserve):
            connection.send(result)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to tidy up
