"""Paths on the command line: which files are coded, and where the results go."""

from __future__ import annotations

import shutil
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
    naming = paths.Naming(PICTURE_SUFFIXES, ".stf")
    return paths.plan(given, output, naming, recursive=recursive).jobs


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
    outputs = {
        str(tmp_path / "b.stf"): tmp_path / "b.stf",
        str(tmp_path): tmp_path / "a.stf",
        f"{tmp_path}/new/": tmp_path / "new" / "a.stf",
        "-": None,
    }
    for given, output in outputs.items():
        assert plan(source, output=given) == [batch.Job(source, output)]


def test_several_inputs_go_to_a_folder(tmp_path: Path) -> None:
    inputs = [tmp_path / "a.png", tmp_path / "b.jpg"]
    beside = [job.output for job in plan(*inputs)]
    assert beside == [tmp_path / "a.stf", tmp_path / "b.stf"]
    moved = [job.output for job in plan(*inputs, output=str(tmp_path / "out"))]
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
    assert [job.output for job in jobs] == [out / "B.stf", out / "a.stf", out / "deep/er/c.stf"]
    assert plan(root, recursive=True)[2].output == root / "deep/er/c.stf"


def test_a_stream_that_is_named_as_a_picture_is_warned_of(
    stf: Command, picture: Path, coded: Path
) -> None:
    for name in ("b.jpg", "b.PNG"):
        output = picture.with_name(name)
        outcome = stf("encode", picture, "-o", output)
        assert outcome.code == 0
        warning = f"stfcodec: warning: {output}: will hold .stf data, whatever its name says"
        assert outcome.err.splitlines()[0] == warning
        one_error(stf("encode", picture, "-o", output, "--quiet"), 2, "exists already")
    outcome = stf("decode", coded, "--format", "png", "-o", coded.with_name("c.stf"))
    assert "c.stf: will hold .png data, whatever its name says" in outcome.err
    assert "warning" not in stf("encode", picture, "-o", picture.with_name("b.dat")).err


def test_a_number_that_no_open_file_has_is_no_bug(stf: Command) -> None:
    one_error(stf("encode", f"/dev/fd/{10**20}", "-o", "a.stf"), 1, "cannot read")


def test_folders_need_recursive(stf: Command, tmp_path: Path) -> None:
    one_error(stf("encode", tmp_path), 2, str(tmp_path), "add -r")


def test_a_folder_among_files_is_refused_alone(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "sub" / "b.png")
    naming = paths.Naming(PICTURE_SUFFIXES, ".stf")
    given = [str(tmp_path / "a.png"), str(tmp_path / "sub")]
    planned = paths.plan(given, None, naming, recursive=False)
    assert [job.source for job in planned.jobs] == [tmp_path / "a.png"]
    (refused,) = planned.refused
    assert refused.failure is not None
    assert "add -r" in refused.failure.message


def test_empty_names_are_refused(stf: Command, picture: Path) -> None:
    one_error(stf("encode", "-r", ""), 2, "empty name")
    one_error(stf("encode", picture, "-o", ""), 2, "empty name")


def test_folders_without_pictures_are_refused(stf: Command, tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    one_error(stf("encode", "-r", tmp_path), 2, "no files found", ".png")


def test_colliding_files_are_all_named_and_the_rest_is_coded(
    stf: Command, picture: Path, tmp_path: Path
) -> None:
    """None of them is coded: what is there already may be of any of them."""
    root = tmp_path / "in"
    root.mkdir()
    for name in ("a.png", "a.jpg", "b.PNG", "b.png", "c.png"):
        shutil.copy(picture, root / name)
    (root / "a.stf").write_bytes(b"of one of them")
    outcome = stf("encode", "-r", "-f", root)
    assert outcome.code == 1
    *errors, summary, _ = outcome.err.splitlines()
    assert summary.startswith("stfcodec: 1 coded, 0 skipped, 4 failed (")
    for error, (name, other) in zip(
        errors,
        [("a.jpg", "a.png"), ("a.png", "a.jpg"), ("b.PNG", "b.png"), ("b.png", "b.PNG")],
        strict=True,
    ):
        assert error == (
            f"stfcodec: error: {root / name}: would become {root / name[0]}.stf, "
            f"as would {root / other}; --keep-suffix keeps them apart"
        )
    assert sorted(path.name for path in root.glob("*.stf")) == ["a.stf", "c.stf"]
    assert (root / "a.stf").read_bytes() == b"of one of them"


def test_kept_suffixes_keep_files_apart(stf: Command, picture: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for name in ("a.png", "a.jpg", "plain"):
        shutil.copy(picture, root / name)
    files = sorted(root.iterdir())
    assert stf("encode", "--keep-suffix", *files, "-o", tmp_path / "out/").code == 0
    coded = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert coded == ["a.jpg.stf", "a.png.stf", "plain.stf"]
    assert stf("decode", "-r", tmp_path / "out", "-o", tmp_path / "back").code == 0
    back = sorted(path.name for path in (tmp_path / "back").iterdir())
    assert back == ["a.jpg.png", "a.png.png", "plain.png"]


def test_the_advice_on_a_collision_helps(tmp_path: Path) -> None:
    """Suffixes do not keep two files of one name apart."""
    sources = [tmp_path / name for name in ("x/a.png", "y/a.png", "z/a.png")]
    touch(*sources)
    for keep_suffix in (True, False):
        naming = paths.Naming(PICTURE_SUFFIXES, ".stf", keep_suffix)
        given = [str(source) for source in sources]
        plan = paths.plan(given, str(tmp_path / "out"), naming, recursive=False)
        assert plan.jobs == []
        for result in plan.refused:
            assert result.failure is not None
            assert "and 1 more; rename it or give it another -o" in result.failure.message


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
    source, other = tmp_path / "a.png", tmp_path / "a.stf"
    touch(source, other)
    naming = paths.Naming(PICTURE_SUFFIXES, ".stf")
    planned = paths.plan([str(source), str(other)], None, naming, recursive=False)
    assert [job.source for job in planned.jobs] == [other]
    assert [result.job.source for result in planned.refused] == [source]
    failure = planned.refused[0].failure
    assert failure is not None
    assert "is an input" in failure.message


def test_the_folder_of_an_output_file_must_exist(stf: Command, picture: Path) -> None:
    one_error(stf("encode", picture, "-o", picture.parent / "no" / "a.stf"), 2, "does not exist")


def test_an_output_without_o_is_recognised(stf: Command, picture: Path, coded: Path) -> None:
    """As cwebp and avifenc order them. Nothing is coded."""
    output = picture.with_name("new.stf")
    one_error(stf("encode", picture, output), 2, f"if it is the output, give -o {output}")
    assert not output.exists() and not picture.with_suffix(".stf").exists()
    one_error(stf("decode", coded, "new.png"), 2, "give -o new.png")


def test_a_stream_is_not_coded_again(stf: Command, coded: Path) -> None:
    one_error(stf("encode", coded, "-o", "-"), 3, "is coded already", "stfcodec decode")


def test_a_format_that_contradicts_the_name_is_said(stf: Command, coded: Path) -> None:
    output = coded.with_name("new.png")
    done = stf("decode", coded, "-o", output, "--format", "jpg")
    assert done.code == 0 and output.read_bytes().startswith(b"\xff\xd8\xff")
    assert f"warning: {output}: will hold JPEG data, whatever its name says" in done.err
    agreeing = stf("decode", coded, "-o", coded.with_name("new.jpeg"), "--format", "jpg")
    assert "warning" not in agreeing.err
    one_error(stf("decode", coded, "-o", coded.with_name("new")), 2, "suffix", "/")
