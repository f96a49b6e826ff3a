"""One run at a time writes to an output: locks of runs that live, died or are elsewhere."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from test_batch import Shout
from text_collections import (
    RESUME,
    opened,
    rows,
    shout,
    texts,
)

from stfcodec import batch
from stfcodec.batch import Coded
from stfcodec.collection import Resumption, lock
from stfcodec.errors import UsageError

pytest.importorskip("pyarrow")
pytest.importorskip("webdataset")

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def write_lock(folder: Path, **content: object) -> Path:
    place = folder / "_running.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(content))
    return place


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@posix
@pytest.mark.parametrize(
    ("host", "pid", "age", "is_held"),
    [
        (platform.node(), "self", 0, True),
        (platform.node(), "self", 1000, False),  # another process has the number by now
        (platform.node(), "ended", 0, False),
        (platform.node(), 10**30, 0, False),
        (platform.node(), None, 0, True),
        ("elsewhere", "ended", 0, True),
        ("elsewhere", "ended", 1000, False),
        ("elsewhere", "ended", None, False),
    ],
)
def test_locks_of_others(
    tmp_path: Path, host: str, pid: object, age: int | None, is_held: bool
) -> None:
    number = {"self": os.getpid(), "ended": ended_process()}.get(str(pid), pid)
    seen = None if age is None else time.time() - age
    place = write_lock(tmp_path, host=host, pid=number, token="x", seen=seen)
    if is_held:
        with (
            pytest.raises(UsageError, match="another run writes there") as found,
            lock.locked(tmp_path),
        ):
            pass
        assert str(place) in str(found.value)
        assert place.exists(), "that of the other run stays"
    else:
        with lock.locked(tmp_path):
            assert json.loads(place.read_text())["pid"] == os.getpid()
        assert not place.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '{"host": []}'])
def test_a_lock_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "_running.json").write_text(content)
    with lock.locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_two_runs_at_once(tmp_path: Path) -> None:
    folder, out = texts(tmp_path / "in", "a.txt"), tmp_path / "out"
    first_codes, second_ended = threading.Event(), threading.Event()

    class Waiting(Shout):
        def code(self, item: bytes) -> Coded:
            first_codes.set()
            assert second_ended.wait(20)
            return super().code(item)

    results: list[batch.Result] = []
    waiting = partial(opened, Waiting)
    first = threading.Thread(target=lambda: results.extend(shout([folder], out, open_task=waiting)))
    first.start()
    assert first_codes.wait(20)
    for resumption in (RESUME, Resumption()):
        with pytest.raises(UsageError, match=f"process {os.getpid()}\\): wait for its end"):
            shout([folder], out, resumption)
    second_ended.set()
    first.join()
    assert [result.failure for result in results] == [None]
    assert set(rows(out)) == {"a.txt"}


def test_of_two_that_find_a_dead_lock_one_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(tmp_path, host="elsewhere", pid=1, token="dead", seen=0)
    monkeypatch.setattr(lock, "_SETTLING_S", 0.3)
    together, held, refused = threading.Barrier(2), [], []

    def take() -> None:
        together.wait()
        try:
            with lock.locked(tmp_path):
                held.append(1)
                time.sleep(1)
        except UsageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 1)


def test_a_lock_shows_that_its_run_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_SEEN_EVERY_S", 0.05)
    with lock.locked(tmp_path):
        first = lock._read(tmp_path / "_running.json")["seen"]
        until = time.monotonic() + 10
        while lock._read(tmp_path / "_running.json").get("seen", first) == first:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_a_run_that_lost_its_lock_leaves_that_of_the_other(tmp_path: Path) -> None:
    with lock.locked(tmp_path):
        place = write_lock(tmp_path, host="elsewhere", pid=1, token="other", seen=time.time())
    assert json.loads(place.read_text())["token"] == "other"
