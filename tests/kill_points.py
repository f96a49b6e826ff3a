"""Kills runs over a collection at one file operation after another, resumes each, and prints what
came of it, a JSON object a line.

    python tests/kill_points.py FOLDER files|tar|parquet|unpack STEP

Processes are forked from this one, which has no threads, rather than started one by one.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import webdataset  # noqa: F401
from test_batch import Shout
from text_collections import RESUME, outputs, shout, tar, texts

from stfcodec import batch
from stfcodec.batch import Coded
from stfcodec.collection import Resumption, lock, manifest

EVENTS = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.truncate"}
"""What is done to files, as Python's auditing calls it."""

OLD = b"of the user, and older than the first run"

MODES: dict[str, dict[str, Any]] = {
    "files": {},
    "tar": {"size": 2, "kind": "tar"},
    "parquet": {"size": 2, "kind": "parquet"},
    "unpack": {"unpacks": True},
}


def main(folder: Path, mode: str, step: int) -> None:
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    texts(folder / "in", "a.txt", "b.txt", "c.txt", "d/e.txt", "d/f.txt", "d/g.txt")
    if mode == "unpack":
        (folder / "in" / "h.tar").write_bytes(
            tar(("i.txt", b"i"), ("i.cls", b"1"), ("j.txt", b"j"))
        )
    plain = folder / "plain"
    run_in_child(lambda: work(folder, plain, mode, resumes=False))
    wanted = outputs(plain)
    for point in count(0, step):
        out = folder / "out"
        status = run_in_child(lambda out=out, point=point: work(folder, out, mode, False, point))
        recorded = {str(value) for value in recorded_sources(out)}
        log = folder / "coded"
        log.unlink(missing_ok=True)
        resumed = run_in_child(lambda out=out: work(folder, out, mode, True))
        coded = log.read_text().split() if log.exists() else []
        names = {str(hash64_of(folder / "in" / name)) for name in coded}
        found = outputs(out)
        report = {
            "point": point,
            "killed": os.WIFSIGNALED(status),
            "resumed": os.waitstatus_to_exitcode(resumed),
            "recorded": len(recorded),
            "coded twice": sorted(recorded & names),
            "wrong": sorted(name for name in wanted | found if wanted.get(name) != found.get(name)),
            "digest": hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest(),
            "locked": (out / "_manifest" / "_running.json").exists(),
            "done": len(manifest.read(out / "_manifest").done),
            "failed": len(manifest.read(out / "_manifest").failed),
        }
        print(json.dumps(report), flush=True)
        remove(out)
        if not report["killed"]:
            return


def work(folder: Path, out: Path, mode: str, resumes: bool, point: int | None = None) -> None:
    """One run, in a child. point: of the operation below `out` at which it kills itself."""
    own = out / (f"shard-000001.{mode}" if "size" in MODES[mode] else "b.out")
    if not resumes:
        out.mkdir()
        own.write_bytes(OLD)
        time.sleep(0.02)  # the clock of file systems is coarse
    log = os.open(folder / "coded", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class Logging(Shout):
        def code(self, item: bytes) -> Coded:
            os.write(log, item + b"\n")
            return super().code(item)

    @contextmanager
    def logging() -> Iterator[batch.Task]:
        yield Logging()

    lock._SETTLING_S = 0.0
    manifest._EVERY_S = manifest._SHARE = 0.0  # a part for each chunk
    if point is not None:
        kill_at(point, str(out))
    shout(
        [folder / "in"], out, RESUME if resumes else Resumption(), open_task=logging, **MODES[mode]
    )


def kill_at(point: int, folder: str) -> None:
    left = [point]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and str(arguments[0]).startswith(folder):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

    sys.addaudithook(watch)


def run_in_child(body: Callable[[], None]) -> int:
    """The status with which a child ends that runs `body`."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1]


def recorded_sources(out: Path) -> np.ndarray:
    record = manifest.read(out / "_manifest")
    return np.concatenate([record.done, record.failed])


def hash64_of(path: Path) -> int:
    return manifest.hash64(str(path))


def remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
