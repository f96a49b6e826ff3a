"""Ways to run work over items: in this process, in several, and (`on_ray`) on several machines.

Each is a generator of (item, outcome), in the order in which items are finished. Items and outcomes
are pickled where they go to other processes. multiprocessing is imported where processes are
started, as most commands start none.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from stfcodec.batch.jobs import Failure, explain
from stfcodec.errors import StfError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

T = TypeVar("T")
R = TypeVar("R")

Take = Callable[[], T | None]
"""Gives the next item; None where there is none at present. It is asked whenever a worker is free,
and the run ends once there is none and no worker has one."""

OpenWork = Callable[[], AbstractContextManager[Callable[[T], R]]]
"""Sets up a process, and gives the work that it does for an item. It is pickled."""

_STOPPING_S, _ENDING_S = 1.0, 10.0
"""Seconds that a worker gets to end: in the midst of its work, and after it."""

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGTERM") if hasattr(signal, name)
]

ADVICE = "if memory is short, use fewer --workers"


class Lost(NamedTuple):
    """The outcome of an item whose worker ended before it was done."""

    reason: str


class Done(NamedTuple, Generic[T, R]):
    """An item and its outcome."""

    item: T
    outcome: R | Lost
    worker: str = ""
    """Which worker it was, for a person."""


Accepts = Callable[[str], bool]
"""Whether the worker of a name may have another item."""


def _always(worker: str) -> bool:
    return True


class Runner(Protocol):
    """How work is spread. Raises StfError where it cannot start at all."""

    def __call__(
        self, take: Take[T], open_work: OpenWork[T, R], accepts: Accepts
    ) -> Generator[Done[T, R], None, None]: ...


def run_here(
    take: Take[T], open_work: OpenWork[T, R], accepts: Accepts = _always
) -> Generator[Done[T, R], None, None]:
    """Do the work in this process, one item at a time."""
    name = "this process"
    with open_work() as work:
        while accepts(name) and (item := take()) is not None:
            yield Done(item, work(item), name)


def run_in_processes(
    take: Take[T],
    open_work: OpenWork[T, R],
    accepts: Accepts = _always,
    *,
    count: int,
    tidy: Callable[[T], object] = lambda item: None,
) -> Generator[Done[T, R], None, None]:
    """Do the work in up to `count` processes. Closing the generator ends them.

    tidy: gets each item whose process ended in the midst of it. Another process takes the place of
    one that ended. Raises StfError where the work cannot start, or every process was killed before
    it could.
    """

    def start() -> _Process[T, R]:
        with _signals_held_back():
            return _Process(open_work, tidy)

    workers: list[_Process[T, R]] = []
    try:
        yield from spread(take, accepts, start, _that_tell, count, workers)
        for worker in workers:
            worker.give(None)
        for worker in workers:
            worker.process.join(_ENDING_S)
    finally:
        _stop(workers)


class Worker(Protocol[T]):
    """Somewhere else that work is done."""

    item: T | None
    """What it works on; None where it waits for something, or is starting."""
    is_starting: bool
    is_alive: bool
    reason: str
    """Why it ended, if it is not alive."""

    @property
    def name(self) -> str: ...

    def give(self, item: T) -> None: ...

    def receive(self) -> Any:
        """What came of the item, now that the worker has something to tell; None: it is ready, or
        it ended without an item. Raises StfError where the work cannot start."""


W = TypeVar("W", bound=Worker[Any])


def spread(
    take: Take[T],
    accepts: Accepts,
    start: Callable[[], W],
    that_tell: Callable[[list[W]], list[W]],
    count: int,
    workers: list[W],
) -> Generator[Done[T, Any], None, None]:
    """Give items to up to `count` workers, which `start` makes, and yield what comes back.

    that_tell: waits until any of some workers has something to tell, and gives those. workers:
    those that are alive, for the caller to end. Another one takes the place of a worker that ended
    in the midst of an item. Raises StfError if every worker ended at its start.
    """
    upcoming = take()
    told: list[Done[T, Any]] = []
    while True:
        for worker in workers:
            is_free = worker.item is None and not worker.is_starting and accepts(worker.name)
            if upcoming is not None and is_free:
                worker.give(upcoming)
                upcoming = take()
        while upcoming is not None and len(workers) < count:
            workers.append(start())
        if told:  # all workers have something to do while these are looked at
            yield from told
            told = []
            upcoming = take() if upcoming is None else upcoming
            continue
        waited = [worker for worker in workers if worker.is_starting or worker.item is not None]
        is_working = any(worker.item is not None for worker in waited)
        if not waited or (upcoming is None and not is_working):
            return
        for worker in that_tell(waited):
            item, was_starting = worker.item, worker.is_starting
            outcome = worker.receive()
            if not worker.is_alive:
                workers.remove(worker)
                count -= was_starting
                if not count:
                    raise StfError(f"no worker could start: {worker.reason}")
            if item is not None and outcome is not None:
                told.append(Done(item, outcome, worker.name))


class _Process(Generic[T, R]):
    """A process that works, as seen from the process that started it."""

    def __init__(self, open_work: OpenWork[T, R], tidy: Callable[[T], object]) -> None:
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, open_work), daemon=True)
        self.process.start()
        theirs.close()  # so that the connection ends with the process
        self.item: T | None = None
        """What the process works on, or did when it ended."""
        self.is_starting = True
        self.is_alive = True
        self.reason = ""
        self._tidy = tidy

    @property
    def name(self) -> str:
        return f"process {self.process.pid}"

    def give(self, item: T | None) -> None:
        """Let the process work on an item, or end."""
        self.item = item
        with suppress(OSError):  # it has ended, which `receive` finds
            self.connection.send(item)

    def receive(self) -> R | Lost | None:
        """As of `Worker`."""
        self.is_starting = False
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.is_alive = False
            self.end(_ENDING_S)
            self.reason = self._reason()
            return None if self.item is None else Lost(self.reason)
        if isinstance(message, Failure):
            error = StfError(message.message)
            error.exit_code = message.exit_code
            raise error
        self.item = None
        outcome: R | None = message
        return outcome

    def _reason(self) -> str:
        code = self.process.exitcode or 0
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"
        return f"its worker process ended with {how}; {ADVICE}"

    def end(self, seconds: float) -> None:
        """Give the process some time to end, and tidy up what it leaves."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        self.connection.close()
        if self.item is not None:
            self._tidy(self.item)


def _that_tell(workers: list[_Process[T, R]]) -> list[_Process[T, R]]:
    """The workers that have something to tell, waiting for the first."""
    from multiprocessing.connection import wait

    found = wait([worker.connection for worker in workers])
    return [worker for worker in workers if worker.connection in found]


def _stop(workers: list[_Process[Any, Any]]) -> None:
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


def _end_with_parent() -> None:
    """End this process if the one that started it is killed.

    Otherwise it would finish its item, and collide with a run that takes the place of that one.
    """
    from multiprocessing import parent_process

    parent = parent_process()
    assert parent is not None
    parent.join()
    if sys.platform != "win32":  # there it would not be handled
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_STOPPING_S)
    os._exit(1)


def _work(connection: Connection, open_work: OpenWork[Any, Any]) -> None:
    """Run in a worker process: tell when it is ready, then work on one item after another."""
    _handle_signals()
    Thread(target=_end_with_parent, daemon=True).start()
    if not os.environ.get("STFCODEC_DEBUG"):
        warnings.simplefilter("ignore")  # as in the process of the command
    with suppress(EOFError, OSError), ExitStack() as stack:  # the command was killed
        try:
            work = stack.enter_context(open_work())
        except Exception as error:
            connection.send(explain(error))
            return
        connection.send(None)
        for item in iter(connection.recv, None):
            connection.send(work(item))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to tidy up
