"""Paths on the command line: which files are coded, and where the results go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, one_error

from stfcodec import batch
from stfcodec.cli import paths
from stfcodec.errors import UsageError
from stfcodec.formats import PICTURE_SUFFIXES


def plan(*inputs: Path, output: str | None = None, recursive: bool = False) -> list[batch.Job]:
    given = [str(path) for path in inputs]
    return paths.plan(
        given, output, recursive=recursive, suffixes=PICTURE_SUFFIXES, target_suffix=".stf"
    ).jobs


def touch(*files: Path) -> None:
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("name", "inferred"),
    [("a.png", "a.stf"), ("a.PNG", "a.stf"), ("a.b.jpg", "a.b.stf"), ("a.2024", "a.2024.stf")],
)
def test_inferred_names(tmp_path: Path, name: str, inferred: str) -> None:
    assert plan(tmp_path / name) == [batch.Job(tmp_path / name, tmp_path / inferred)]


def test_output_is_a_file_or_a_folder(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    targets = {
        str(tmp_path / "b.stf"): tmp_path / "b.stf",
        str(tmp_path): tmp_path / "a.stf",
        f"{tmp_path}/new/": tmp_path / "new" / "a.stf",
        "-": None,
    }
    for output, target in targets.items():
        assert plan(source, output=output) == [batch.Job(source, target)]


def test_several_inputs_go_to_a_folder(tmp_path: Path) -> None:
    inputs = [tmp_path / "a.png", tmp_path / "b.jpg"]
    beside = [job.target for job in plan(*inputs)]
    assert beside == [tmp_path / "a.stf", tmp_path / "b.stf"]
    moved = [job.target for job in plan(*inputs, output=str(tmp_path / "out"))]
    assert moved == [tmp_path / "out" / "a.stf", tmp_path / "out" / "b.stf"]
    for output in (str(tmp_path / "one.stf"), "-"):
        with pytest.raises(UsageError, match="folder"):
            plan(*inputs, output=output)


def test_folders_are_mirrored_whatever_the_case_of_extensions(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    names = ["B.JPG", "a.png", "deep/er/c.Tiff"]
    touch(*(root / name for name in names))
    touch(root / "notes.txt", root / ".hidden.png", root / ".cache" / "d.png")
    jobs = plan(root, output=str(out), recursive=True)
    assert [job.source for job in jobs] == [root / name for name in names]
    assert [job.target for job in jobs] == [out / "B.stf", out / "a.stf", out / "deep/er/c.stf"]
    assert plan(root, recursive=True)[2].target == root / "deep/er/c.stf"


def test_folders_need_recursive(stf: Command, tmp_path: Path) -> None:
    one_error(stf("encode", tmp_path), 2, str(tmp_path), "add -r")


def test_folders_without_pictures_are_refused(stf: Command, tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    one_error(stf("encode", "-r", tmp_path), 2, "no files to code", ".png")


def test_collisions_are_found_before_work_starts(stf: Command, tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "a.jpg", tmp_path / "b.png")
    one_error(stf("encode", "-r", tmp_path), 2, "a.png", "a.jpg", "a.stf")
    assert not list(tmp_path.glob("*.stf"))


def test_an_input_given_twice_is_coded_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    assert len(plan(tmp_path, tmp_path / "a.png", tmp_path / "a.png", recursive=True)) == 1


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to, None])
def test_input_is_never_the_output(
    stf: Command, picture: Path, link: Callable[[Path, Path], None] | None
) -> None:
    before = picture.read_bytes()
    output = picture
    if link is not None:
        output = picture.with_name("link.stf")
        link(output, picture)
    one_error(stf("encode", picture, "-f", "-o", output), 2, "is an input")
    assert picture.read_bytes() == before


def test_an_output_is_not_another_input_either(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "a.stf")
    with pytest.raises(UsageError, match="is an input"):
        plan(tmp_path / "a.png", tmp_path / "a.stf")


def test_the_folder_of_an_output_file_must_exist(stf: Command, picture: Path) -> None:
    one_error(stf("encode", picture, "-o", picture.parent / "no" / "a.stf"), 2, "does not exist")
