"""stfcodec test: files that decode, and files that do not."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from commands import HEIGHT, WIDTH, Command, one_error, pipe_in
from PIL import Image

from stfcodec import container


@pytest.fixture
def damaged(coded: Path) -> Path:
    """A stream whose container is whole, and whose symbols are others than were encoded."""
    stream = container.read(coded.read_bytes())
    y = bytearray(stream.y)
    y[len(y) // 2] ^= 4
    path = coded.with_name("damaged.stf")
    path.write_bytes(container.write(replace(stream, y=bytes(y))))
    return path


def test_a_file_that_is_whole(stf: Command, coded: Path) -> None:
    shown = stf("test", coded)
    assert (shown.code, shown.err) == (0, "")
    size = coded.stat().st_size
    assert shown.out.decode().startswith(f"{coded}: OK, {WIDTH}x{HEIGHT}, {size} bytes, ")
    assert stf("test", coded, "--quiet", "--threads", 1) == (0, b"", "")
    (record,) = stf("test", coded, "--json").records
    assert (record["input"], record["ok"], record["width"]) == (str(coded), True, WIDTH)
    assert "output" not in record
    assert [path.name for path in coded.parent.iterdir()] == [coded.name]


def test_each_kind_of_damage_is_found(stf: Command, coded: Path, damaged: Path) -> None:
    assert stf("info", damaged).code == 0, "the container alone does not tell"
    one_error(stf("test", damaged), 4, "damaged.stf")
    stream = container.read(coded.read_bytes())
    damaged.write_bytes(container.write(replace(stream, alpha=b"no PNG file")))
    one_error(stf("test", damaged), 4, "alpha plane")
    header = replace(stream.header, fingerprint=b"none")
    damaged.write_bytes(container.write(replace(stream, header=header)))
    one_error(stf("test", damaged), 5, "weights")
    damaged.write_bytes(coded.read_bytes()[:-1])
    one_error(stf("test", damaged), 4, "truncated")
    one_error(stf("test", coded, "--max-pixels", 4095), 4, "over the limit")
    one_error(stf("test", coded.with_name("none.stf")), 1, "No such file")


def test_an_alpha_plane_is_decoded(stf: Command, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    grey = Image.linear_gradient("L").resize((WIDTH, HEIGHT))
    Image.merge("LA", (grey, grey)).save(source)
    assert stf("encode", source).code == 0
    assert container.read(source.with_suffix(".stf").read_bytes()).alpha is not None
    assert stf("test", source.with_suffix(".stf")).code == 0


def test_folders(stf: Command, coded: Path, damaged: Path) -> None:
    root = coded.parent / "in"
    (root / "sub").mkdir(parents=True)
    shutil.copy(coded, root / "a.stf")
    shutil.copy(damaged, root / "sub" / "b.STF")
    shutil.copy(coded, root / "c.stf")
    (root / "a.png").touch()
    shown = stf("test", "-r", root, root / "a.stf")
    assert shown.code == 1
    names = [line.split(": OK, ")[0] for line in shown.out.decode().splitlines()]
    assert names == [str(root / "a.stf"), str(root / "c.stf")]
    error, summary = shown.err.splitlines()
    assert error.startswith(f"stfcodec: error: {root / 'sub' / 'b.STF'}: ")
    assert summary.startswith("stfcodec: 2 OK, 1 failed, 1 other file left out: 1 .png (")
    records = stf("test", "-r", root, "--json").records
    assert [record["ok"] for record in records] == [True, True, False]
    assert stf("test", "-r", root, "--quiet").out == b""


def test_what_cannot_be_tested(stf: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one_error(stf("test", tmp_path), 2, f"{tmp_path} is a folder; add -r")
    one_error(stf("test", "-r", tmp_path / "empty"), 2, "no files found", ".stf")
    one_error(stf("test", ""), 2, "empty name")


def test_standard_input(stf: Command, coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch, coded.read_bytes())
    assert stf("test", "-").out.startswith(b"-: OK, ")
    pipe_in(monkeypatch, coded.read_bytes())
    shown = stf("test", coded, "-", "--workers", "2")
    assert shown.code == 0
    assert "2 OK, 0 failed" in shown.err
