"""--filelist: names of inputs from a file or from another program."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from commands import Command, one_error, pipe_in

COMMANDS = ("encode", "decode", "info", "test")


@pytest.fixture
def streams(coded: Path) -> list[Path]:
    """Two streams, and one of a name with a line break and a space."""
    paths = [coded.with_name(name) for name in ("b.stf", "c.stf", "with\na space.stf")]
    for path in paths:
        shutil.copy(coded, path)
    return paths


def inputs(records: list[dict[str, object]]) -> list[object]:
    return [record["input"] for record in records]


def test_names_come_one_a_line(stf: Command, streams: list[Path], tmp_path: Path) -> None:
    """Whatever ends the lines, and empty ones left out."""
    names = [str(path) for path in streams[:2]]
    (tmp_path / "list").write_bytes("\r\n\n".join(names).encode())
    assert inputs(stf("info", "--filelist", tmp_path / "list", "--json").records) == names
    done = stf("decode", "--filelist", tmp_path / "list", "-o", tmp_path / "new")
    assert done.code == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["b.png", "c.png"]


def test_names_end_in_nul(
    stf: Command, streams: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As find -print0 writes them."""
    names = [str(path) for path in streams]
    pipe_in(monkeypatch, "".join(f"{name}\0" for name in names).encode())
    assert inputs(stf("test", "--filelist", "-", "-0", "--json").records) == names
    pipe_in(monkeypatch, "".join(f"{name}\0" for name in names).encode())
    one_error(stf("test", "--filelist", "-"), 2, "NUL characters", "-0")


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_names_that_are_no_text(stf: Command, coded: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.stf"
    shutil.copy(coded, name)
    (tmp_path / "list").write_bytes(name)
    done = stf("decode", "--filelist", tmp_path / "list")
    assert done.code == 0, done.err
    assert Path(os.fsdecode(name)).with_suffix(".png").exists()


def test_arguments_and_list_add_up(stf: Command, streams: list[Path], tmp_path: Path) -> None:
    (tmp_path / "list").write_text(str(streams[1]))
    outcome = stf("info", streams[0], "--filelist", tmp_path / "list", "--json")
    assert inputs(outcome.records) == [str(path) for path in streams[:2]]


def test_a_list_of_one_is_a_list(stf: Command, picture: Path, tmp_path: Path) -> None:
    """A script's result must not depend on how many files were found."""
    (tmp_path / "list").write_text(str(picture))
    done = stf("encode", "--filelist", tmp_path / "list", "-o", tmp_path / "out")
    assert "1 coded, 0 skipped, 0 failed" in done.err
    assert (tmp_path / "out" / "photo.stf").is_file()
    (tmp_path / "list").write_text("none.png")
    done = stf("encode", "--filelist", tmp_path / "list")
    assert done.code == 1
    assert "0 coded, 0 skipped, 1 failed" in done.err
    (tmp_path / "bad.stf").write_bytes(b"no stream")
    (tmp_path / "list").write_text(str(tmp_path / "bad.stf"))
    for command in ("info", "test"):
        assert stf(command, "--filelist", tmp_path / "list").code == 1
        assert stf(command, tmp_path / "bad.stf").code == 4


def test_folders_in_a_list_need_recursive(stf: Command, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(str(picture.parent))
    done = stf("encode", "--filelist", tmp_path / "list", "--dry-run")
    assert done.code == 1
    assert "is a folder; add -r" in done.err
    assert stf("encode", "-r", "--filelist", tmp_path / "list", "--dry-run").code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_lists_that_make_no_sense(
    stf: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    one_error(stf(command, "--filelist", tmp_path / "none"), 1, "none: No such file")
    one_error(stf(command, "--filelist", tmp_path), 1, "Is a directory")
    one_error(stf(command, "-0", "a.stf"), 2, "--filelist")
    one_error(stf(command), 2, "--filelist", f"stfcodec {command} --help")
    for empty in (b"", b"\n\n"):
        pipe_in(monkeypatch, empty)
        one_error(stf(command, "--filelist", "-"), 2, "the file list - is empty")
    pipe_in(monkeypatch, b"a.stf\n")
    one_error(stf(command, "--filelist", "-", "-"), 2, "both the file list and an input")


def test_the_list_itself_is_never_overwritten(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(picture.parent)
    listed = picture.with_suffix(".stf")
    listed.write_text(f"{picture.name}\n")
    outcome = stf("encode", "--filelist", listed, "-f")
    assert outcome.code == 1 and "which is an input" in outcome.err
    assert listed.read_text() == f"{picture.name}\n"


def test_a_byte_order_mark_is_no_part_of_a_name(stf: Command, picture: Path) -> None:
    listed = picture.with_name("list.txt")
    listed.write_bytes(b"\xef\xbb\xbf" + str(picture).encode() + b"\r\n")
    assert stf("encode", "--filelist", listed).code == 0
