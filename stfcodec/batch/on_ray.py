"""Runs work over items on the machines of a Ray cluster, or of one that is started here.

Each worker is an actor, which keeps what the work loads. Ray is imported where a run begins.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic

from stfcodec import __version__
from stfcodec.batch.jobs import Failure, explain
from stfcodec.batch.pools import Accepts, Done, Lost, OpenWork, R, T, Take, spread
from stfcodec.errors import StfError, UsageError, one_line

LOCAL = "local"
"""In place of an address: a cluster of this machine alone, for this run."""


_CONNECTING_S = 10.0


@dataclass(frozen=True)
class Cluster:
    """Where actors run, and what each is given."""

    address: str = LOCAL
    """As of `ray.init`: HOST:PORT, auto (one that runs on this machine), or LOCAL."""
    cpus: float = 1
    """CPUs of an actor."""
    gpus: float = 0
    """GPUs of an actor; a share of one where several use it."""
    workers: int | None = None
    """Actors; None: as many as the cluster has room for."""


def run_on_ray(
    take: Take[T],
    open_work: OpenWork[T, R],
    accepts: Accepts,
    *,
    cluster: Cluster,
) -> Generator[Done[T, R], None, None]:
    """Do the work in actors of a cluster. Closing the generator ends them.

    Raises StfError where the cluster cannot be reached, has no room for an actor, or the work
    cannot start.
    """
    with _connected(cluster) as ray:
        count = cluster.workers or _room(ray, cluster)
        remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_restarts=0)(_Actor)
        workers: list[_Remote[T, R]] = []

        def start() -> _Remote[T, R]:
            return _Remote(ray, remote, open_work)

        def that_tell(waited: list[_Remote[T, R]]) -> list[_Remote[T, R]]:
            ready, _ = ray.wait([worker.answer for worker in waited], num_returns=1)
            return [worker for worker in waited if worker.answer in ready]

        try:
            yield from spread(take, accepts, start, that_tell, count, workers)
        finally:
            for worker in workers:
                worker.end()


class _Actor:
    """What runs in a process of the cluster."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._work: Callable[[Any], Any] | None = None

    def start(self, version: str, open_work: OpenWork[Any, Any]) -> Failure | None:
        """Load what the work needs, or say why that cannot be. version: of who asks."""
        if version != __version__:
            where = f"the machine {platform.node()} of the Ray cluster"
            return Failure(f"{where} has stfcodec {__version__}, and this one {version}", 1)
        try:
            self._work = self._stack.enter_context(open_work())
        except Exception as error:
            return explain(error)
        return None

    def work(self, item: Any) -> Any:
        assert self._work is not None
        return self._work(item)


class _Remote(Generic[T, R]):
    """An actor, as seen from here."""

    def __init__(self, ray: Any, remote: Any, open_work: OpenWork[T, R]) -> None:
        self._ray = ray
        self._actor = remote.remote()
        self.item: T | None = None
        self.is_starting = True
        self.is_alive = True
        self.reason = ""
        self.answer = self._actor.start.remote(__version__, open_work)
        """What it will tell next."""

    @property
    def name(self) -> str:
        return f"actor {self._actor._actor_id.hex()[:8]}"

    def give(self, item: T) -> None:
        self.item = item
        self.answer = self._actor.work.remote(item)

    def receive(self) -> R | Lost | None:
        """As of `pools.Worker`."""
        was_starting, self.is_starting = self.is_starting, False
        try:
            message = self._ray.get(self.answer)
        except self._ray.exceptions.RayTaskError:
            raise  # of the work itself: a bug
        except self._ray.exceptions.RayError as error:
            self.is_alive = False
            self.reason = _reason(error)
            return None if self.item is None else Lost(self.reason)
        if was_starting:
            if isinstance(message, Failure):
                failed = StfError(message.message)
                failed.exit_code = message.exit_code
                raise failed
            return None
        self.item = None
        outcome: R | None = message
        return outcome

    def end(self) -> None:
        self._ray.kill(self._actor)


def _reason(error: Exception) -> str:
    """Why an actor ended, on one line. Ray tells its whole story."""
    story = str(error)
    if missing := re.search(r"No module named '([\w.]+)'", story):
        return f"a machine of the Ray cluster lacks {missing[1]}: install it there"
    told = story.partition("Some common causes")[0]  # which name a shortage of memory, too
    is_shortage = "OutOfMemory" in type(error).__name__ or "OOM" in told
    advice = " (memory was short: give each worker more --cpus-per-worker)" if is_shortage else ""
    return f"its worker ended or was killed{advice}"


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected; a connection that the host program has is used, and kept."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no warning of its default
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray: pip install 'stfcodec[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    is_local = cluster.address == LOCAL
    options: dict[str, Any] = {"include_dashboard": False} if is_local else {}
    try:
        _check_address(cluster.address)
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        doing = "start Ray on this machine" if is_local else f"reach Ray at {cluster.address}"
        may_lack_token = not is_local and "RAY_AUTH_MODE" not in os.environ
        advice = "; if it asks for a token, set RAY_AUTH_MODE=token" * may_lack_token
        raise StfError(f"cannot {doing}: {one_line(error)}{advice}") from error
    _silence(ray)
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise OSError where nobody answers at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTING_S):
            pass


def _silence(ray: Any) -> None:
    """Keep Ray from writing about dead workers to standard output, where records go.

    It has no option for that.
    """
    if hasattr(ray._private.worker, "_worker_logs_enabled"):
        ray._private.worker._worker_logs_enabled = False


def _room(ray: Any, cluster: Cluster) -> int:
    """How many actors the cluster has room for. Raises UsageError if that is none."""
    count = 0
    for node in ray.nodes():
        resources = node.get("Resources", {}) if node.get("Alive") else {}
        rooms = [
            int(resources.get(name, 0) / wanted)
            for name, wanted in (("CPU", cluster.cpus), ("GPU", cluster.gpus))
            if wanted
        ]
        count += min(rooms, default=0)
    if not count:
        wanted = f"{cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs"
        raise UsageError(
            f"no machine of the Ray cluster has {wanted}, which a worker is to have; "
            f"lower --cpus-per-worker or --gpus-per-worker"
        )
    return count
