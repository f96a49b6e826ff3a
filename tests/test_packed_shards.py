"""Shards that files are packed into: their names, their end, and reading them back."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Command
from PIL import Image

pytest.importorskip("webdataset")
pytest.importorskip("pyarrow")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        Image.new("RGB", (20, 12), "teal").save(folder / f"{name}.png")
    return folder


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("shard-*"))


def test_beginning_anew_leaves_no_shard_of_before(
    stf: Command, source: Path, tmp_path: Path
) -> None:
    """Pictures in them would be there twice, and loaders read whatever is there."""
    from stfcodec.data import StfShards

    out = tmp_path / "out"
    assert stf("encode", source, "-r", "-o", out, "--shards", 1).code == 0
    assert len(shards(out)) == 3
    assert stf("encode", source, "-r", "-o", out, "--shards", 2, "--force").code == 0
    assert shards(out) == ["shard-000000.tar", "shard-000001.tar"]
    keys = [sample["__key__"] for sample in StfShards(out)]  # and none of the manifest
    assert sorted(keys) == ["a", "b", "c"]


def test_a_source_cannot_take_the_name_of_a_packed_shard(
    stf: Command, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (source / "shard-000000.tar").write_bytes(b"")
    outcome = stf("encode", source, "-r", "-o", out, "--shards", 2)
    assert outcome.code == 1
    assert "is the name of a shard that --shards writes; rename it" in outcome.err
    assert stf("manifest", out).out.startswith(b"3 coded, 1 failed")
    assert stf("encode", source, "-r", "-o", out, "--shards", 2, "--retry-failed").code == 1
    assert stf("manifest", out).out.startswith(b"3 coded, 1 failed")


def test_names_that_clash_are_refused_by_later_runs_too(
    stf: Command, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    Image.new("RGB", (20, 12), "red").save(source / "a.jpg")
    for again in ((), ("--retry-failed",)):
        outcome = stf("encode", source, "-r", "-o", out, "--shards", 9, *again)
        assert outcome.code == 1
        assert "as another file does" in outcome.err
    assert shards(out) == ["shard-000000.tar"]
