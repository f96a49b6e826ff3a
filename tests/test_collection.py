"""Runs over collections, with a stand-in for the codec: chunks, manifests, clashes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from text_collections import (
    KEEPING,
    RESUME,
    RETRY,
    failures,
    members,
    outputs,
    rows,
    shout,
    tar,
    texts,
)

from stfcodec import batch
from stfcodec.batch import pools
from stfcodec.batch.jobs import AnyJob
from stfcodec.collection import Resumption, chunks, hashes, manifest
from stfcodec.collection.chunks import Chunks
from stfcodec.collection.hashes import HashSet, hash64
from stfcodec.collection.listing import Unit
from stfcodec.errors import StfError

pytest.importorskip("pyarrow")
pytest.importorskip("webdataset")

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


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
