"""--dry-run: what encode and decode would do. Nothing is written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import Command, one_error
from test_imports import RUN, loaded_by

from stfcodec import batch


@pytest.fixture(autouse=True)
def _nothing_is_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a dry run loads and codes nothing")

    for task in (batch.Encode, batch.Decode):
        monkeypatch.setattr(task, "prepare", refuse)
        monkeypatch.setattr(task, "code", refuse)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder(stf: Command, picture: Path, coded: Path, tmp_path: Path) -> None:
    """A picture, one that is done, two of one output, a stream of a picture's name, a text."""
    root = tmp_path / "in"
    root.mkdir()
    for name in ("a.png", "b.png", "b.jpg", "done.png"):
        shutil.copy(picture, root / name)
    shutil.copy(coded, root / "stream.png")
    (root / "notes.txt").touch()
    out = tmp_path / "out"
    out.mkdir()
    (out / "done.stf").touch()
    before = contents(tmp_path)
    command = ("encode", "-r", root, "-o", out, "--dry-run")

    shown = stf(*command, "--skip-existing")
    assert shown.code == 1
    assert shown.out.decode().splitlines() == [
        f"{root / 'a.png'} -> {out / 'a.stf'}",
        f"{root / 'done.png'} -> {out / 'done.stf'}: skipped, exists already",
    ]
    *errors, summary = shown.err.splitlines()
    assert [error.split(": ")[2] for error in errors] == [
        str(root / name) for name in ("b.jpg", "b.png", "stream.png")
    ]
    assert summary == (
        "stfcodec: 1 would be coded, 1 would be skipped, 3 would fail, "
        "1 other file left out: 1 .txt"
    )
    assert "2 would be coded, 0 would be skipped, 3 would fail" in stf(*command, "--force").err
    assert "1 would be coded, 0 would be skipped, 4 would fail" in stf(*command).err
    assert stf(*command, "--quiet").out == b""
    assert contents(tmp_path) == before


def test_records(stf: Command, picture: Path, tmp_path: Path) -> None:
    done = picture.with_name("done.png")
    shutil.copy(picture, done)
    done.with_suffix(".stf").touch()
    given = (picture, done, tmp_path / "none.png")
    shown = stf("encode", *given, "--dry-run", "--json", "--skip-existing")
    planned, skipped, failed = shown.records
    output = str(picture.with_suffix(".stf"))
    assert planned == {"input": str(picture), "output": output, "dry_run": True}
    assert (skipped["skipped"], skipped["dry_run"]) == (True, True)
    assert (failed["exit_code"], failed["dry_run"]) == (1, True)
    assert "No such file" in str(failed["error"])


def test_a_single_file(stf: Command, picture: Path, coded: Path) -> None:
    shown = stf("decode", coded, "--dry-run")
    assert shown == (0, f"{coded} -> {coded.with_suffix('.png')}\n".encode(), "")
    one_error(stf("decode", picture, "-o", "x.png", "--dry-run"), 4, "not an .stf stream")
    one_error(stf("decode", coded, "-o", picture, "--dry-run"), 2, "exists already")
    one_error(stf("encode", picture, "--dry-run", "-f", "--skip-existing"), 2, "give one")


@pytest.mark.usefixtures("weights_folder")
def test_missing_weights_are_told_of(stf: Command, picture: Path) -> None:
    one_error(stf("encode", picture, "-m", "wacnn", "-q", 3, "--dry-run"), 5, "no weights")


def test_standard_input_is_not_read(
    stf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    shown = stf("encode", "-", "-o", tmp_path / "a.stf", "--dry-run")
    assert shown == (0, f"- -> {tmp_path / 'a.stf'}\n".encode(), "")


@pytest.mark.parametrize(("command", "name"), [("encode", "photo.png"), ("decode", "coded.stf")])
def test_torch_is_not_loaded(picture: Path, coded: Path, command: str, name: str) -> None:
    loaded = loaded_by(RUN, command, str(picture.with_name(name)), "--dry-run", "-o", "none.bmp")
    assert "torch" not in loaded
