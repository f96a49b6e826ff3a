"""Listing folders one entry at a time: order, what is left out, and more entries than fit."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from stfcodec import listing
from stfcodec.listing import walk

posix = pytest.mark.skipif(os.name != "posix", reason="files as POSIX has them")


def is_text(path: Path) -> bool:
    return path.suffix == ".txt"


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def names(folder: Path, kind: str = "file") -> list[str]:
    found = [entry for entry in walk(folder, is_text) if entry.kind == kind]
    return [entry.path.relative_to(folder).as_posix() for entry in found]


def test_files_come_before_folders_each_in_the_order_of_names(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "a/z.txt", "a/b/c.txt", "B.txt", "c/a.txt", "ü.txt", "10.txt", "9.txt")
    assert names(tmp_path) == [
        *("10.txt", "9.txt", "B.txt", "b.txt", "ü.txt"),
        *("a/z.txt", "a/b/c.txt", "c/a.txt"),
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 100])
def test_more_entries_than_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Seven entries of one folder, in sorted runs on the disk where they are more than `most`."""
    make(tmp_path, *(f"{name}.txt" for name in "gbdaf"), "x/1.txt", "e/2.txt", "x/.h/3.txt")
    expected = list(walk(tmp_path, is_text))
    made: list[object] = []
    temporary_file = tempfile.TemporaryFile

    def counted() -> object:
        made.append(None)
        return temporary_file()

    monkeypatch.setattr(tempfile, "TemporaryFile", counted)
    monkeypatch.setattr(listing, "_IN_MEMORY", most)
    assert list(walk(tmp_path, is_text)) == expected
    assert names(tmp_path) == [*(f"{name}.txt" for name in "abdfg"), "e/2.txt", "x/1.txt"]
    assert bool(made) == (most <= 7)


def test_nothing_is_read_before_it_is_wanted(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "d/b.txt")
    found = walk(tmp_path, is_text)
    assert next(found).path.name == "a.txt"
    make(tmp_path, "d/a.txt")
    assert [entry.path.name for entry in found] == ["a.txt", "b.txt"]


def test_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", ".b.txt", "c.csv", "d", ".e/f.txt", "g.TXT")
    assert names(tmp_path) == ["a.txt"]
    assert names(tmp_path, "left out") == [".b.txt", "c.csv", "d", "g.TXT"]


@posix
def test_links(tmp_path: Path) -> None:
    make(tmp_path, "real/a.txt")
    for name, target in {
        "up": "..",
        ".up": "..",
        "good.txt": "real/a.txt",
        "broken.txt": "gone",
        "loop.txt": "loop.txt",
        ".loop.txt": ".loop.txt",
    }.items():
        (tmp_path / name).symlink_to(target)
    assert names(tmp_path) == ["broken.txt", "good.txt", "real/a.txt"]
    assert names(tmp_path, "linked folder") == ["up"]
    ((refused, reason),) = [(e.path.name, e.reason) for e in walk(tmp_path, is_text) if e.reason]
    assert refused == "loop.txt"
    assert "symbolic links" in reason


@posix
def test_pipes_are_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    os.mkfifo(tmp_path / "b.csv")
    ((path, kind, reason),) = [e for e in walk(tmp_path, is_text) if e.kind != "left out"]
    assert (path.name, kind) == ("a.txt", "refused")
    assert "is a pipe, a socket or a device" in reason


def test_a_folder_that_cannot_be_listed_is_refused_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one without rights, which do not bind root, or one that vanishes."""
    make(tmp_path, "a/1.txt", "b/2.txt", "c/3.txt")
    found = walk(tmp_path, is_text)
    assert next(found).path.name == "1.txt"
    (tmp_path / "b" / "2.txt").unlink()
    (tmp_path / "b").rmdir()
    refused, last = found
    assert refused == (
        tmp_path / "b",
        "refused",
        "cannot list the folder: No such file or directory",
    )
    assert last.path.name == "3.txt"
    missing = list(walk(tmp_path / "none", is_text))
    assert [entry.kind for entry in missing] == ["refused"]


@posix
def test_names_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_IN_MEMORY", 1)
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt"))
    try:
        path.touch()
    except OSError:
        pytest.skip("file names are text on this system")
    make(tmp_path, "a\nb.txt")
    assert {entry.path for entry in walk(tmp_path, is_text)} == {path, tmp_path / "a\nb.txt"}
