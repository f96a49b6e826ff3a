"""Runs over collections, with a stand-in for the codec: chunks, manifests, locks, resumption."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_batch import Shout
from text_collections import (
    KEEPING,
    RESUME,
    RETRY,
    SETTINGS,
    failures,
    members,
    outputs,
    shout,
    tar,
    texts,
)

from stfcodec import batch, files, storage
from stfcodec.batch import Coded, pools
from stfcodec.batch.jobs import AnyJob
from stfcodec.collection import Resumption, chunks, hashes, lock, manifest
from stfcodec.collection.chunks import Chunks
from stfcodec.collection.hashes import HashSet, hash64
from stfcodec.collection.listing import Unit
from stfcodec.errors import StfError, StorageError, UsageError

pytest.importorskip("pyarrow")
pytest.importorskip("webdataset")

HERE = Path(__file__).resolve().parent
posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@contextmanager
def opened(task: type[Shout], **options: Any) -> Iterator[batch.Task]:
    yield task(**options)


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of an output's manifest, by what is last in their sources."""
    return {Path(row["source"]).name: row for row in manifest.rows(folder / "_manifest")}


# Sets of hashes and chunks ------------------------------------------------------------------------


def test_a_hash_set_is_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_RECENT", 7)  # so that arrays are made, and joined
    known = np.array(sorted(hash64(f"old {number}") for number in range(20)), np.uint64)
    found, model = HashSet(known), {f"old {number}" for number in range(20)}
    for number in np.random.default_rng(1).integers(0, 150, 400):
        text = f"{'old ' * (number % 2)}{number}"
        assert (text in found) == (text in model)
        assert found.add(text) == (text not in model)
        model.add(text)
    assert all(text in found for text in model)
    assert "nothing" not in found
    assert 5 not in found


def units(*names: str) -> Iterator[Unit]:
    return (Unit(Path(name), name, "tar" if name.endswith(".tar") else None) for name in names)


def all_of(found: Chunks) -> list[list[str]]:
    return [[unit.name for unit in chunk.units] for chunk in iter(found.take, None)]


def test_chunks_grow_with_what_is_to_come_and_shrink_at_the_end() -> None:
    count = 2 * chunks.AHEAD
    taken = all_of(Chunks(units(*(f"{number}.txt" for number in range(count))), Path("out")))
    assert [name for chunk in taken for name in chunk] == [f"{n}.txt" for n in range(count)]
    sizes = [len(chunk) for chunk in taken]
    assert sizes[0] == max(sizes) == chunks.LARGEST
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_a_shard_is_a_chunk_of_its_own() -> None:
    found = Chunks(units("a.txt", "b.tar", "c.txt", "d.txt"), Path("out"))
    assert all_of(found) == [["a.txt"], ["b.tar"], ["c.txt"], ["d.txt"]]


def test_files_are_packed_around_shards() -> None:
    names = ("a.txt", "b.tar", "c.txt", "d.txt")
    numbers = iter((0, 5))
    found = Chunks(units(*names), Path("out"), kind="tar", size=2, numbers=lambda: next(numbers))
    packed = list(iter(found.take, None))
    assert [[unit.name for unit in chunk.units] for chunk in packed] == [
        *(["b.tar"], ["a.txt", "c.txt"], ["d.txt"])
    ]
    names_of_outputs = [str(chunk.output) for chunk in packed]
    assert names_of_outputs[1:] == [str(Path("out", f"shard-00000{n}.tar")) for n in (0, 5)]


def test_chunks_that_come_again_are_the_last() -> None:
    found = Chunks(units("a.txt", "b.txt"), Path("out"))
    first = found.take()
    assert first is not None
    found.try_again(first.again())
    found.put_back(first)
    assert found.take() is first
    second, again = found.take(), found.take()
    assert second is not None
    assert again is not None
    assert [second.units[0].name, again.units[0].name] == ["b.txt", "a.txt"]
    assert (again.attempts, again.may_have_outputs) == (1, True)
    assert found.take() is None


# Manifests ----------------------------------------------------------------------------------------


def test_what_is_recorded(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.txt", "d/b.txt")
    (folder / "long.txt").write_text("x" * 1001)
    results = shout([folder], tmp_path / "out")
    assert len(results) == 3
    found = rows(tmp_path / "out")
    assert set(found) == {"a.txt", "b.txt", "long.txt"}
    row = found["b.txt"]
    assert row["source"] == str(folder / "d" / "b.txt")
    assert (row["output"], row["key"], row["error"], row["exit_code"]) == ("d/b.out", *[None] * 3)
    assert row["source_bytes"] == len("d/b.txt")
    import hashlib

    assert row["source_sha256"] == hashlib.sha256(b"d/b.txt").hexdigest()
    assert "more than 1000 bytes" in found["long.txt"]["error"]
    assert found["long.txt"]["exit_code"] == 1
    assert found["long.txt"]["bytes"] is None


def result(name: str, error: str | None = None) -> batch.Result:
    from test_batch import stream_info

    failure = batch.Failure(error, 1) if error else None
    job = AnyJob(Path(name), Path("out", Path(name).with_suffix(".out")))
    return batch.Result(job, None if error else stream_info(1), failure=failure)


def write_part(folder: Path, *results: batch.Result) -> None:
    writer = manifest.Writer(folder)
    writer.add([manifest.row(r.job.input_name, r, Path("out")) for r in results])
    writer.flush()


def test_the_last_part_that_has_a_source_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of one second keep their order, whatever their random names and the clock are."""
    tokens = iter(["ff", "aa", "cc", "00"])
    monkeypatch.setattr(manifest, "secrets", SimpleNamespace(token_hex=lambda n: next(tokens)))
    write_part(tmp_path, result("a", "bad"), result("b"), result("c", "bad"))
    write_part(tmp_path, result("a"))
    monkeypatch.setattr(manifest.time, "strftime", lambda *a: "19700101T000000")
    write_part(tmp_path, result("b", "worse"))
    found = {row["source"]: row["error"] for row in manifest.rows(tmp_path)}
    assert found == {"a": None, "b": "worse", "c": "bad"}
    record = manifest.read(tmp_path)
    assert set(record.done) == {hash64("a")}
    assert set(record.failed) == {hash64("b"), hash64("c")}
    assert set(record.outputs) == {hash64("a.out")}


def test_one_failed_picture_makes_a_shard_fail(tmp_path: Path) -> None:
    write_part(tmp_path, result("s"), result("s", "bad"), result("t"))
    record = manifest.read(tmp_path)
    assert set(record.done) == {hash64("t")}
    assert set(record.failed) == {hash64("s")}
    assert len(list(manifest.rows(tmp_path))) == 3


def test_parts_are_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(manifest.time, "monotonic", lambda: now)
    writer = manifest.Writer(tmp_path)

    def add(count: int = 1) -> int:
        writer.add([manifest.row("a", result("a"), Path("out"))] * count)
        return len(manifest.parts(tmp_path))

    assert add() == 0
    now += manifest._EVERY_S
    assert add() == 1
    now += manifest._EVERY_S - 1
    assert add() == 1
    monkeypatch.setattr(manifest, "_ROWS", 10)
    assert add(9) == 2
    now += 1000 * manifest._EVERY_S
    assert add() == 3
    now += manifest._EVERY_S
    assert add() == 3, "a long run writes parts less often"
    writer.flush()
    writer.flush()
    assert len(manifest.parts(tmp_path)) == 4


def test_a_damaged_manifest_is_told_of(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.txt")
    shout([folder], tmp_path / "out")
    (part,) = manifest.parts(tmp_path / "out" / "_manifest")
    assert isinstance(part, Path)
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StfError, match="the manifest is damaged"):
        shout([folder], tmp_path / "out", RESUME)
    part.write_bytes(whole)
    (tmp_path / "out" / "_manifest" / "_begun.json").write_text("{")
    with pytest.raises(StfError, match="damaged: --force begins anew"):
        shout([folder], tmp_path / "out", RESUME)
    assert not failures(shout([folder], tmp_path / "out", existing="replace"))


def test_names_that_are_no_text_are_recorded(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "ü .txt", "a\nb.txt")
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).write_text("bytes")
    except (OSError, UnicodeError):
        pytest.skip("file names are text on this system")
    assert not failures(shout([folder], tmp_path / "out"))
    assert len(outputs(tmp_path / "out")) == 3
    assert not shout([folder], tmp_path / "out", RESUME)
    for kind in ("tar", "parquet"):
        assert not failures(shout([folder], tmp_path / kind, size=9, kind=kind))
        assert not shout([folder], tmp_path / kind, RESUME, size=9, kind=kind)


# Clashes and repetitions --------------------------------------------------------------------------


def test_two_files_of_one_output(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.md", "a.txt", "b.txt")
    results = shout([folder], tmp_path / "out")
    told = failures(results)
    assert set(told) == {"a.txt"}
    assert "as another file does; --keep-suffix keeps them apart" in told["a.txt"]
    assert outputs(tmp_path / "out") == {"a.out": b"A.MD", "b.out": b"B.TXT"}
    assert not failures(shout([folder], tmp_path / "kept", naming=KEEPING))
    assert set(outputs(tmp_path / "kept")) == {"a.md.out", "a.txt.out", "b.txt.out"}


def test_a_recorded_output_stays_when_its_source_is_gone(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.md", "a.txt")
    shout([folder], tmp_path / "out")
    (folder / "a.md").unlink()
    assert set(failures(shout([folder], tmp_path / "out", RETRY))) == {"a.txt"}
    assert outputs(tmp_path / "out") == {"a.out": b"A.MD"}


def test_a_file_that_is_named_twice_is_taken_once(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.txt", "d/b.txt")
    warnings: list[str] = []
    given = [folder, folder / "d", folder / "a.txt"]
    assert not failures(shout(given, tmp_path / "out", warnings=warnings))
    assert len(warnings) == 2
    assert all(text.endswith(": it is named twice, and taken once") for text in warnings)
    assert set(outputs(tmp_path / "out")) == {"a.out", "d/b.out"}
    assert not shout(given, tmp_path / "out", RESUME)


def test_packing_never_uses_the_number_of_a_recorded_shard(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", *(f"{n}.txt" for n in range(4)))
    out = tmp_path / "out"
    shout([folder], out, size=2)
    before = outputs(out)
    assert set(before) == {"shard-000000.tar", "shard-000001.tar"}
    assert manifest.read(out / "_manifest").shards == {0, 1}
    texts(folder, "00.txt")
    assert not failures(shout([folder], out, RESUME, size=2))
    after = outputs(out)
    assert members(after.pop("shard-000002.tar")) == {"00.out": b"00.TXT"}
    assert after == before


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
from test_collection import limited
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


# The lock -----------------------------------------------------------------------------------------


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


# Kinds of runs ------------------------------------------------------------------------------------


@pytest.mark.slow
@posix
def test_processes_give_what_one_gives(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", *(f"{n:02}.txt" for n in range(20)))
    (folder / "s.tar").write_bytes(tar(("x.txt", b"x"), ("y.txt", b"y")))
    runner = partial(pools.run_in_processes, count=2)
    for name, options in {"files": {"unpacks": True}, "tar": {"size": 3}}.items():
        one, two = tmp_path / name / "1", tmp_path / name / "2"
        assert not failures(shout([folder], one, **options))
        assert not failures(shout([folder], two, **options, runner=runner))
        assert outputs(one) == outputs(two)
        assert set(rows(one)) == set(rows(two))


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    from text_collections import NAMING

    from stfcodec.collection import Collection, dry_run

    folder, out = texts(tmp_path / "in", "a.txt", "b.txt"), tmp_path / "out"
    found = Collection((str(folder),), out, NAMING, recursive=True)
    planned = list(dry_run(found, Resumption()))
    assert [result.planned for result in planned] == [True, True]
    assert not out.exists()
    shout([folder / "a.txt"], out)
    planned = list(dry_run(Collection((str(folder),), out, NAMING, recursive=True), RESUME))
    assert [result.job.output_name for result in planned] == [str(out / "b.out")]


def test_an_output_below_the_input_is_not_read_again(tmp_path: Path) -> None:
    folder = texts(tmp_path / "in", "a.txt", "b.txt")
    out = folder / "out"
    shout([folder], out, size=1)
    assert shout([folder], out, RESUME, size=1) == []
    assert set(outputs(out)) == {"shard-000000.tar", "shard-000001.tar"}
