"""Runs that go on where another ended, failed or was killed: what they do, keep and replace."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_batch import Shout
from text_collections import (
    RESUME,
    RETRY,
    SETTINGS,
    failures,
    opened,
    outputs,
    rows,
    shout,
    tar,
    texts,
)

from stfcodec import files, storage
from stfcodec.batch import Coded, pools
from stfcodec.collection import Resumption
from stfcodec.errors import StfError, StorageError, UsageError

pytest.importorskip("pyarrow")
pytest.importorskip("webdataset")

HERE = Path(__file__).resolve().parent
posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


# Resumption ---------------------------------------------------------------------------------------


def test_resuming_does_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.txt", "b.txt", "s.tar")
    (folder / "s.tar").write_bytes(tar(("x.txt", b"x"), ("x.cls", b"1")))
    (folder / "long.txt").write_text("x" * 1001)
    out = tmp_path / "out"
    shout([folder], out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file()}
    assert shout([folder], out, RESUME) == []
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before
    texts(folder, "new.txt")
    (folder / "long.txt").write_text("short")
    assert [r.job.input_name for r in shout([folder], out, RESUME)] == [str(folder / "new.txt")]
    assert [r.job.input_name for r in shout([folder], out, RETRY)] == [str(folder / "long.txt")]
    assert outputs(out)["long.out"] == b"SHORT"
    assert not shout([folder], out, RETRY)


def test_other_settings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = texts(tmp_path / "in", "a.txt")
    shout([folder], tmp_path / "out")
    with pytest.raises(UsageError, match=r"record of an earlier run: --resume goes on .* --force"):
        shout([folder], tmp_path / "out")
    monkeypatch.setitem(SETTINGS, "quality", 5)
    with pytest.raises(UsageError, match="the earlier run had quality None: give the same"):
        shout([folder], tmp_path / "out", RESUME)
    assert not failures(shout([folder], tmp_path / "out", existing="replace"))
    assert not shout([folder], tmp_path / "out", RESUME)


def test_beginning_anew_never_mixes_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with --force that ends while it removes the old record leaves the old settings."""
    folder = texts(tmp_path / "in", "a.txt", "b.txt")
    shout([folder], tmp_path / "out")
    shout([texts(folder, "c.txt")], tmp_path / "out", RESUME)
    before, removed = storage.remove, []

    def remove(place: object) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(place)
        assert isinstance(place, Path)
        place.unlink()

    with monkeypatch.context() as patch:
        patch.setitem(SETTINGS, "quality", 5)
        patch.setattr(storage, "remove", remove)
        with pytest.raises(KeyboardInterrupt):
            shout([folder], tmp_path / "out", existing="replace")
        patch.setattr(storage, "remove", before)
        (tmp_path / "out" / "_manifest" / "_running.json").unlink()
        with pytest.raises(UsageError, match="the earlier run had"):
            shout([folder], tmp_path / "out", RESUME)
    results = shout([folder], tmp_path / "out", RESUME)
    assert {Path(r.job.input_name).name for r in results} == {"a.txt", "b.txt"}
    assert not failures(results)


@pytest.mark.parametrize("resumption", [RESUME, RETRY])
@pytest.mark.parametrize("touch", ["nothing", "mode", "name", "content's time"])
def test_a_file_of_the_user_is_never_replaced(
    tmp_path: Path, resumption: Resumption, touch: str
) -> None:
    """Neither when its mode or its name is changed during the runs, nor with a copied time."""
    folder, out = texts(tmp_path / "in", "a.txt", "b.txt"), tmp_path / "out"
    out.mkdir()
    own = out / "a.out"
    own.write_bytes(b"mine")
    time.sleep(0.02)
    assert "exists already" in failures(shout([folder], out))["a.txt"]
    time.sleep(0.02)
    if touch == "mode":
        own.chmod(0o600)
    elif touch == "name":
        own.rename(out / "x")
        (out / "x").rename(own)
    elif touch == "content's time":
        own.unlink()
        own.write_bytes(b"mine")
        os.utime(own, (1, 1))
    shout([folder], out, resumption)
    assert outputs(out) == {"a.out": b"mine", "b.out": b"B.TXT"}


def test_outputs_with_the_times_of_sources_are_known_again(tmp_path: Path) -> None:
    """A killed run with --preserve left one, and recorded nothing."""
    folder, out = texts(tmp_path / "in", "a.txt"), tmp_path / "out"
    os.utime(folder / "a.txt", (1, 1))
    shout([folder], out, preserve=True)
    for part in (out / "_manifest").glob("part-*"):
        part.unlink()
    assert (out / "a.out").stat().st_mtime == 1
    assert not failures(shout([folder], out, RESUME, preserve=True))
    assert len(rows(out)) == 1


@posix
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["files", "tar", "parquet", "unpack"])
def test_runs_that_were_killed_go_on(tmp_path: Path, mode: str) -> None:
    """At every few file operations, with a file of the user at an output's place."""
    command = [sys.executable, HERE / "kill_points.py", tmp_path, mode, "3"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reports) > 10
    assert [report["killed"] for report in reports] == [True] * (len(reports) - 1) + [False]
    assert len({report["recorded"] for report in reports}) > 2, "kills before and after records"
    last = reports[-1]
    for report in reports:
        assert report["resumed"] == 0
        assert report["coded twice"] == report["wrong"] == []
        assert not report["locked"]
        assert (report["done"], report["failed"]) == (last["done"], last["failed"])
    assert last["failed"] > 0, "the file of the user is in the way"


# Failures of workers and storages -----------------------------------------------------------------


class Killing(Shout):
    def code(self, item: bytes) -> Coded:
        if item == b"kill.txt":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().code(item)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 2])
def test_a_picture_that_kills_workers_fails_alone(tmp_path: Path, size: int | None) -> None:
    folder = texts(tmp_path / "in", "a.txt", "b.txt", "kill.txt", "z.txt")
    runner = partial(pools.run_in_processes, count=2)
    killing = partial(opened, Killing)
    results = shout([folder], tmp_path / "out", open_task=killing, runner=runner, size=size)
    told = failures(results)
    assert set(told) == ({"kill.txt"} if size is None else {"kill.txt", "z.txt"})
    assert "signal 9 (Killed); if memory is short, use fewer --workers, 3 times" in told["kill.txt"]
    assert all(not name.startswith(".stf") for name in outputs(tmp_path / "out"))
    again = shout([folder], tmp_path / "out", RETRY, size=size, runner=pools.run_here)
    assert {Path(r.job.input_name).name for r in again} == set(told)
    assert not failures(again)
    assert set(rows(tmp_path / "out")) == {"a.txt", "b.txt", "kill.txt", "z.txt"}


class Full:
    """A disk that takes so many files, and then none."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sync = files._sync

    def __call__(self, file: Any) -> None:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= 1
        self.sync(file)


@pytest.mark.parametrize("size", [None, 2])
@pytest.mark.parametrize("room", [3, 4, 5, 7])
def test_a_full_disk_stops_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, room: int
) -> None:
    """The lock and what the run began with take the first two."""
    folder = texts(tmp_path / "in", *(f"{n:02}.txt" for n in range(12)))
    plain = tmp_path / "plain"
    shout([folder], plain, size=size)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync", Full(room))
        with pytest.raises(StorageError, match="No space left on device"):
            shout([folder], out, size=size)
    assert len(outputs(out)) <= room
    assert outputs(out).items() <= outputs(plain).items()
    assert not failures(shout([folder], out, RESUME, size=size))
    assert outputs(out) == outputs(plain)
    assert len(rows(out)) == 12


def test_a_disk_that_is_full_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = texts(tmp_path / "in", *(f"{n}.txt" for n in range(5)))
    sync, calls = files._sync, iter(range(99))

    def sometimes(file: Any) -> None:
        if next(calls) in (3, 4):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(files, "_sync", sometimes)
    assert not failures(shout([folder], tmp_path / "out"))
    assert len(outputs(tmp_path / "out")) == 5


def limited(folder: Path, out: Path) -> None:
    """What a child does: no file may have more than 2000 bytes."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    print(json.dumps(failures(shout([folder], out))))


@posix
def test_files_that_are_larger_than_may_be(tmp_path: Path) -> None:
    """A limit of the system: what is too large fails, and leaves nothing."""
    folder = texts(tmp_path / "in", "a.txt", "s.tar")
    (folder / "s.tar").write_bytes(tar(("x.txt", b"x" * 900), ("y.txt", b"y" * 900)))
    out = tmp_path / "out"
    code = f"""
import sys, pathlib
from test_resumption import limited
try:
    limited(pathlib.Path({str(folder)!r}), pathlib.Path({str(out)!r}))
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert "File too large" in done.stdout
    assert set(outputs(out)) == {"a.out"}
    assert not failures(shout([folder], out, RESUME))
    assert not failures(shout([folder], out, RETRY))
    assert set(outputs(out)) == {"a.out", "s.tar"}


def test_a_manifest_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = texts(tmp_path / "in", "a.txt", "b.txt"), tmp_path / "out"
    write = storage.write_bytes

    def refuse(place: Any, data: bytes, overwrite: bool) -> None:
        if place.name.startswith("part-"):
            raise StorageError(f"cannot write {place}: No space left on device")
        write(place, data, overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_bytes", refuse)
        with pytest.raises(StfError, match=r"part-.*No space left"):
            shout([folder], out)
    assert len(shout([folder], out, RESUME)) == 2
    assert len(rows(out)) == 2


def test_an_interrupt_is_recorded_and_unlocks(tmp_path: Path) -> None:
    folder, out = texts(tmp_path / "in", "a.txt", "b.txt", "c.txt"), tmp_path / "out"
    interrupting = partial(opened, Shout, errors={b"b.txt": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        shout([folder], out, open_task=interrupting)
    assert set(rows(out)) == {"a.txt"}
    assert not (out / "_manifest" / "_running.json").exists()
    assert len(shout([folder], out, RESUME)) == 2


def test_bugs_and_errors_of_libraries_fail_their_chunk_alone(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.txt", "bug.txt", "c.txt")
    buggy = partial(opened, Shout, errors={b"bug.txt": ZeroDivisionError("in the network")})
    told = failures(shout([folder], tmp_path / "out", open_task=buggy))
    assert set(told) == {"bug.txt"}
    assert "this is a bug" in told["bug.txt"]
