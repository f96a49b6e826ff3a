"""The command line: names, streams, exit codes and messages, end to end with the real codec."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from stfcodec import __version__, batch, container
from stfcodec.cli import paths
from stfcodec.cli.main import main
from stfcodec.entropy import rans
from stfcodec.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 50, 34
NOTE = f"files may need stfcodec {__version__} to be decoded"


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Outcome]


@pytest.fixture
def stf(capfdbinary: pytest.CaptureFixture[bytes], weights: list[str]) -> Command:
    """Run the command in this process; encode and decode get weights that exist."""

    def run(*arguments: object) -> Outcome:
        words = [str(argument) for argument in arguments]
        extra = weights if words[:1] in (["encode"], ["decode"]) else []
        code = main([*words, *extra])
        captured = capfdbinary.readouterr()
        return Outcome(code, captured.out, captured.err.decode())

    return run


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    Image.fromarray(np.stack([4 * x, 6 * y, 2 * (x + y)], -1).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def _coded(tmp_path_factory: pytest.TempPathFactory, weights: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("coded")
    Image.linear_gradient("L").convert("RGB").resize((WIDTH, HEIGHT)).save(folder / "photo.png")
    assert main(["encode", str(folder / "photo.png"), "--quiet", *weights]) == 0
    return folder / "photo.stf"


@pytest.fixture
def coded(tmp_path: Path, _coded: Path) -> Path:
    """A valid stream of a WIDTH x HEIGHT picture, in a file of its own."""
    return Path(shutil.copy(_coded, tmp_path / "coded.stf"))


def pipe_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def one_error(outcome: Outcome, code: int, *words: str) -> None:
    """The command failed as promised: exit code, one line on stderr, nothing on stdout."""
    assert (outcome.code, outcome.out) == (code, b"")
    (line,) = outcome.err.splitlines()
    assert line.startswith("stfcodec: error: ")
    for word in words:
        assert word in line


# Names --------------------------------------------------------------------------------------------


def plan(*inputs: Path, output: str | None = None, recursive: bool = False) -> list[batch.Job]:
    given = [str(path) for path in inputs]
    return paths.plan(
        given, output, recursive=recursive, suffixes=paths.PICTURES, target_suffix=".stf"
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


# Coding -------------------------------------------------------------------------------------------


def test_there_and_back(stf: Command, picture: Path, tmp_path: Path) -> None:
    encoded = stf("encode", picture)
    assert (encoded.code, encoded.out) == (0, b"")
    assert f"{WIDTH}x{HEIGHT}" in encoded.err
    decoded = stf("decode", tmp_path / "photo.stf", "-o", tmp_path / "back.png")
    assert (decoded.code, decoded.out) == (0, b"")
    with Image.open(tmp_path / "back.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (WIDTH, HEIGHT))


def test_decoded_files_are_png_beside_the_stream(stf: Command, coded: Path) -> None:
    assert stf("decode", coded, "--quiet") == (0, b"", "")
    with Image.open(coded.with_suffix(".png")) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        (["--format", "jpg"], "coded.jpg", "JPEG"),
        (["--format", ".WEBP"], "coded.webp", "WEBP"),
        (["-o", "x.bmp"], "x.bmp", "BMP"),
        (["-o", "x.dat", "--format", "png"], "x.dat", "PNG"),
    ],
)
def test_formats(
    stf: Command,
    coded: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    name: str,
    expected: str,
) -> None:
    monkeypatch.chdir(coded.parent)
    assert stf("decode", "coded.stf", *arguments).code == 0
    with Image.open(coded.with_name(name)) as image:
        assert image.format == expected


def test_unknown_formats_are_usage_errors(stf: Command, coded: Path) -> None:
    one_error(stf("decode", coded, "--format", "doc"), 2, "doc")
    one_error(stf("decode", coded, "-o", coded.with_name("a.doc")), 2, "doc")


def test_pipes(stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_in(monkeypatch, picture.read_bytes())
    stream = stf("encode", "-", "--quiet")
    assert (stream.code, stream.err) == (0, "")
    pipe_in(monkeypatch, stream.out)
    back = stf("decode", "-", "--format", "ppm")
    assert back.code == 0
    with Image.open(io.BytesIO(back.out)) as image:
        assert (image.format, image.size) == ("PPM", (WIDTH, HEIGHT))


def test_a_file_to_standard_output_and_back(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stf("encode", picture, "-o", "-").out
    pipe_in(monkeypatch, stream)
    assert stf("decode", "-", "-o", picture.with_name("back.png")).code == 0
    assert not picture.with_suffix(".stf").exists()


def test_standard_input_alone_only(stf: Command, picture: Path, tmp_path: Path) -> None:
    one_error(stf("encode", "-", picture), 2, "standard input")
    one_error(stf("encode", "-", "-o", tmp_path), 2, "no name")
    one_error(stf("encode", picture, "-o", "-", "--json"), 2, "--json")


def test_no_binary_on_a_terminal(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    one_error(stf("encode", picture, "-o", "-"), 2, "terminal")
    pipe_in(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    one_error(stf("encode", "-", "-o", picture.with_suffix(".stf")), 2, "terminal")


def test_quality_and_lambda_set_the_rate(stf: Command, picture: Path) -> None:
    def quality(*arguments: object) -> object:
        (record,) = stf("encode", picture, "-f", "--json", *arguments).records
        return record["quality"]

    assert quality() == 3
    assert quality("-q", 2.25) == 2.25
    assert quality("--lambda", 0.0483) == 6


def test_a_size_sets_the_quality(stf: Command, picture: Path) -> None:
    (best,) = stf("encode", picture, "--json", "-q", "6").records
    size = int(best["bytes"]) - 20  # type: ignore[call-overload]
    (record,) = stf("encode", picture, "-f", "--json", "--size", size, "-e", "1").records
    assert record["bytes"] == picture.with_suffix(".stf").stat().st_size <= size
    one_error(stf("encode", picture, "-f", "--size", 50), 1, str(picture), "50 bytes cannot be had")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-q", "7"], "quality 7"),
        (["-q", "nan"], "quality nan"),
        (["-q", "high"], "not a valid float"),
        (["--lambda", "1"], "lambda 1"),
        (["-q", "3", "--lambda", "0.0130"], "give one"),
        (["--size", "900", "--psnr", "30"], "--size and --psnr"),
        (["--size", "0"], "size"),
        (["--bpp", "-0.5"], "bpp -0.5"),
        (["--psnr", "nan"], "psnr nan"),
        (["-e", "101"], "effort"),
        (["-m", "jpeg"], "wacnn-lite"),
        (["-m", "wacnn", "-q", "2.5"], "whole"),
        (["--threads", "0"], "threads"),
        (["--device", "abacus"], "cuda"),
        (["-f", "--skip-existing"], "give one"),
        (["--nonsense"], "stfcodec encode --help"),
    ],
)
def test_usage_errors(stf: Command, picture: Path, arguments: list[str], words: str) -> None:
    one_error(stf("encode", picture, *arguments), 2, words)
    assert not picture.with_suffix(".stf").exists()


def test_metadata_is_kept_unless_stripped(stf: Command, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a test"
    source = tmp_path / "a.png"
    Image.new("RGB", (20, 16), "olive").save(source, exif=exif, icc_profile=b"profile" * 30)
    for strip in ([], ["--strip"]):
        assert stf("encode", source, "-f", *strip).code == 0
        assert stf("decode", tmp_path / "a.stf", "-f", "-o", tmp_path / "b.png").code == 0
        with Image.open(tmp_path / "b.png") as image:
            kept = ("icc_profile" in image.info, 0x010E in image.getexif())
        assert kept == ((False, False) if strip else (True, True))


def test_what_was_changed_is_said(stf: Command, tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((16, 20), 40_000, np.uint16)).save(deep)
    noted = stf("encode", deep)
    assert noted.code == 0
    assert "stfcodec: warning: " in noted.err
    assert "deep.png" in noted.err
    assert stf("encode", deep, "-f", "--quiet").err == ""


def test_what_a_format_cannot_hold_is_said(stf: Command, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (20, 16), "olive").save(source, icc_profile=b"profile" * 30)
    assert stf("encode", source).code == 0
    assert "stfcodec: warning: " in stf("decode", tmp_path / "a.stf", "--format", "bmp").err


def test_every_format_written_is_found_in_folders() -> None:
    from stfcodec.imageio import WRITABLE

    assert set(WRITABLE) <= paths.PICTURES


def test_threads(stf: Command, picture: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        assert stf("encode", picture, "--threads", 1).code == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_existing_outputs_need_force(stf: Command, picture: Path) -> None:
    target = picture.with_suffix(".stf")
    target.write_bytes(b"precious")
    one_error(stf("encode", picture), 2, "photo.stf", "--force")
    assert stf("encode", picture, "--skip-existing").code == 0
    assert target.read_bytes() == b"precious"
    assert stf("encode", picture, "--force").code == 0
    assert target.read_bytes() != b"precious"


@pytest.mark.parametrize(
    ("command", "name", "code"), [("encode", "a.png", 3), ("decode", "a.stf", 4), ("info", "a", 4)]
)
def test_bad_input_has_its_exit_code(
    stf: Command, tmp_path: Path, command: str, name: str, code: int
) -> None:
    (tmp_path / name).write_bytes(b"neither a picture nor a stream")
    one_error(stf(command, tmp_path / name), code, name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_a_missing_file_is_a_failed_operation(stf: Command, tmp_path: Path, command: str) -> None:
    one_error(stf(command, tmp_path / "none.stf.png"), 1, "none.stf.png", "No such file")


def test_missing_weights_have_their_exit_code(
    picture: Path, coded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["encode", str(picture)], ["decode", str(coded)]):
        assert main([*arguments, "--weights", str(picture.with_name("none.safetensors"))]) == 5
        assert len(capfd.readouterr().err.splitlines()) == 1


# Many files ---------------------------------------------------------------------------------------


def test_a_folder_there_and_back(stf: Command, picture: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    for name in ("one.png", "sub/TWO.PNG"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, root / name)
    encoded = stf("encode", "-r", root, "-o", tmp_path / "coded", "--json")
    assert encoded.code == 0
    assert [record["input"] for record in encoded.records] == [
        str(root / "one.png"),
        str(root / "sub" / "TWO.PNG"),
    ]
    assert "2 coded, 0 skipped, 0 failed" in encoded.err
    assert stf("decode", "-r", tmp_path / "coded", "-o", tmp_path / "back").code == 0
    assert (tmp_path / "back" / "sub" / "TWO.png").is_file()


def test_a_bad_file_fails_the_run_but_not_the_rest(
    stf: Command, picture: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    outcome = stf("encode", "-r", tmp_path, "--json")
    failed, done = outcome.records
    assert (outcome.code, failed["exit_code"]) == (1, 3)
    assert failed["input"] == str(bad)
    assert done["width"] == WIDTH
    failure, summary, note = outcome.err.splitlines()
    assert note == f"stfcodec: note: preview weights: {NOTE}"
    assert failure.startswith(f"stfcodec: error: {bad}: ")
    assert "1 coded, 0 skipped, 1 failed" in summary

    picture.with_suffix(".stf").write_bytes(b"kept")
    bad.unlink()
    again = stf("encode", "-r", tmp_path, "--skip-existing")
    assert again.code == 0
    assert "0 coded, 1 skipped, 0 failed" in again.err
    assert picture.with_suffix(".stf").read_bytes() == b"kept"


def test_records(stf: Command, picture: Path) -> None:
    (record,) = stf("encode", picture, "--json").records
    size = picture.with_suffix(".stf").stat().st_size
    assert record["bytes"] == size
    assert record["bpp"] == pytest.approx(8 * size / (WIDTH * HEIGHT))
    assert (record["width"], record["height"]) == (WIDTH, HEIGHT)
    assert record["output"] == str(picture.with_suffix(".stf"))
    assert record["model"] == "wacnn-lite"
    (back,) = stf("decode", picture.with_suffix(".stf"), "-f", "--json").records
    assert {**back, "seconds": 0} == {
        **record,
        "input": record["output"],
        "output": record["input"],
        "seconds": 0,
    }


def test_the_bar_is_for_terminals(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = stf("encode", "-r", picture.parent)
    assert shown.out == b""
    assert "1/1" in shown.err
    assert "bpp" in shown.err
    assert "1/1" not in stf("encode", "-r", "-f", "--quiet", picture.parent).err


# Other commands -----------------------------------------------------------------------------------


def test_info(stf: Command, coded: Path) -> None:
    shown = stf("info", coded)
    assert (shown.code, shown.err) == (0, "")
    for words in (f"{WIDTH} x {HEIGHT}", "wacnn-lite", "bpp", str(coded.stat().st_size)):
        assert words in shown.out.decode()
    (record,) = stf("info", coded, "--json").records
    assert (record["width"], record["height"], record["model"]) == (WIDTH, HEIGHT, "wacnn-lite")


def test_info_of_several(stf: Command, coded: Path) -> None:
    outcome = stf("info", "missing.stf", coded, "--json")
    failed, done = outcome.records
    assert (outcome.code, failed["exit_code"], done["width"]) == (1, 1, WIDTH)


def test_models(stf: Command) -> None:
    from stfcodec.models import registry

    shown = stf("models")
    assert shown.code == 0
    records = stf("models", "--json").records
    assert [record["model"] for record in records] == [info.name for info in registry.MODELS]
    for record in records:
        assert str(record["model"]) in shown.out.decode()
        assert record["weights"] in {"embedded", "installed", "missing"}


def test_models_shows_what_was_measured(stf: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from stfcodec.models import locate

    points = [{"quality": 1, "bpp": 0.15, "psnr": 28.123}, {"quality": 6, "bpp": 1.1, "psnr": 36.0}]
    monkeypatch.setattr(locate, "manifest", lambda: {"stf-lite.safetensors": {"measured": points}})
    shown = stf("models").out.decode()
    assert shown.count("measured:") == 1
    assert "0.150  28.12" in shown
    records = {record["model"]: record for record in stf("models", "--json").records}
    assert records["stf-lite"]["measured"] == points
    assert records["wacnn-lite"]["measured"] == []


@pytest.mark.parametrize("command", [[], ["encode"], ["decode"], ["info"], ["models"]])
def test_help(stf: Command, command: list[str]) -> None:
    short, long = stf(*command, "-h"), stf(*command, "--help")
    assert short == long
    assert (short.code, short.err) == (0, "")
    assert short.out.startswith(b"Usage: stfcodec")


def test_version(stf: Command) -> None:
    from stfcodec import __version__

    assert stf("--version") == (0, f"stfcodec {__version__}\n".encode(), "")
    verbose = stf("--version", "-v").out.decode().splitlines()
    assert verbose[0] == f"stfcodec {__version__}"
    words = dict(line.split(None, 1) for line in verbose[1:])
    assert {"format", "torch", "transforms", "integers", "weights"} <= set(words)
    assert words["range"].startswith("coder " + {"c": "C", "python": "Python"}[rans.BACKEND])
    one_error(stf("-v"), 2, "name a command")


def test_no_command_shows_the_help_as_an_error(stf: Command) -> None:
    outcome = stf()
    assert (outcome.code, outcome.out) == (2, b"")
    assert outcome.err.startswith("Usage: stfcodec")
    one_error(stf("enkode"), 2, "enkode", "stfcodec --help")


# Going wrong --------------------------------------------------------------------------------------


def test_a_bug_is_one_line(stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    for name in ("code", "prepare"):  # inside a file's work, and outside it
        monkeypatch.setattr(batch.Encode, name, broken)
        one_error(stf("encode", picture), 1, "ZeroDivisionError", "STFCODEC_DEBUG=1")
    monkeypatch.setenv("STFCODEC_DEBUG", "1")
    assert "Traceback" in stf("encode", picture).err


def test_an_interrupt_leaves_nothing(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch.Encode, "code", interrupted)
    outcome = stf("encode", picture)
    assert outcome.code == 130
    assert outcome.err.split("\n", 1)[1] == "stfcodec: error: interrupted\n"  # below ^C
    assert [path.name for path in picture.parent.iterdir()] == [picture.name]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _heed_interrupts() -> None:
    """What a shell runs in the background ignores SIGINT, and so would this child of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_in_a_real_process(picture: Path, weights: list[str]) -> None:
    """A named pipe that never delivers keeps the command busy until the signal comes."""
    pipe = picture.with_name("endless.png")
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "stfcodec", "encode", str(pipe), *weights]
    with (
        subprocess.Popen(
            command, stderr=subprocess.PIPE, env=environment(), preexec_fn=_heed_interrupts
        ) as process,
        pipe.open("wb"),  # opens once the command reads
    ):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert sorted(path.name for path in picture.parent.iterdir()) == ["endless.png", "photo.png"]


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "stfcodec", "models"]
    done = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


# --------------------------------------------------------------------------- limits, verification


def test_preview_weights_are_told_of_once(stf: Command, picture: Path, tmp_path: Path) -> None:
    done = stf("encode", picture)
    assert done.err.splitlines()[1:] == [f"stfcodec: note: preview weights: {NOTE}"]
    assert stf("encode", picture, "-f", "--quiet").err == ""
    stream = picture.with_suffix(".stf")
    assert f"(preview {__version__})" in stf("info", stream).out.decode()
    (record,) = stf("info", "--json", stream).records
    assert record["weights_version"] == __version__


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_pixels_are_limited(stf: Command, picture: Path, coded: Path, command: str) -> None:
    source, code = (picture, 3) if command == "encode" else (coded, 4)
    wanted = f"{WIDTH}x{HEIGHT} pixels, 4096 once padded, are over the limit of 4095"
    one_error(stf(command, source, "--max-pixels", 4095), code, str(source), wanted)
    assert stf(command, source, "--max-pixels", 4096).code == 0


def test_verified_files_are_the_same(stf: Command, picture: Path) -> None:
    stream = picture.with_suffix(".stf")
    assert stf("encode", picture, "--verify").code == 0
    verified = stream.read_bytes()
    assert stf("encode", picture, "-f").code == 0
    assert stream.read_bytes() == verified


def test_what_is_no_stream_is_not_read_whole(stf: Command, tmp_path: Path) -> None:
    """Its first bytes tell: here of a file larger than the memory of most machines."""
    film = tmp_path / "film.stf"
    with film.open("wb") as file:
        file.write(b"\0\0\0 ftypisom")
        file.truncate(1 << 40)
    for command in ("decode", "info"):
        one_error(stf(command, film), 4, str(film), "not an .stf stream")


def test_messages_are_one_line_and_name_the_file(stf: Command, tmp_path: Path) -> None:
    """Whatever the file is called: with a line break, an escape, or a word of the message."""
    names = ["bad\nname.png", "bad\x1b[31m.png", "known", "e"]
    for name in names:
        (tmp_path / name).write_bytes(b"no picture at all")
    outcome = stf("encode", *(tmp_path / name for name in names), "-o", tmp_path / "out/")
    *errors, summary = outcome.err.splitlines()
    assert "4 failed" in summary
    for name, error in zip(names, errors, strict=True):
        shown = str(tmp_path / name).replace("\n", "\\n").replace("\x1b", "\\x1b")
        assert error.startswith(f"stfcodec: error: {shown}: not a picture")


def test_info_names_the_version_of_retired_models(stf: Command, coded: Path) -> None:
    stream = container.read(coded.read_bytes())
    header = replace(stream.header, model_id=1, fingerprint=bytes.fromhex("39c281b3"))
    coded.write_bytes(container.write(replace(stream, header=header)))
    assert "39c281b3 (preview 0.1.0)" in stf("info", coded).out.decode()
    (record,) = stf("info", "--json", coded).records
    assert record["weights_version"] == "0.1.0"
