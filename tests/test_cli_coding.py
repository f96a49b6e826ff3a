"""stfcodec encode and decode, end to end with the real codec: one file and many."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
from commands import HEIGHT, NOTE, WIDTH, Command, one_error, pipe_in
from PIL import Image

from stfcodec.cli.main import main
from stfcodec.formats import PICTURE_SUFFIXES, READABLE, WRITABLE
from stfcodec.models import releases

# One file -----------------------------------------------------------------------------------------


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

    assert quality() == 5
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
    inks = tmp_path / "inks.jpg"
    Image.new("CMYK", (20, 16)).save(inks)
    noted = stf("encode", inks)
    assert noted.code == 0
    assert "stfcodec: warning: " in noted.err
    assert "inks.jpg" in noted.err
    assert stf("encode", inks, "-f", "--quiet").err == ""


def test_what_a_format_cannot_hold_is_said(stf: Command, tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (20, 16), "olive").save(source, icc_profile=b"profile" * 30)
    assert stf("encode", source).code == 0
    assert "stfcodec: warning: " in stf("decode", tmp_path / "a.stf", "--format", "bmp").err


def test_every_format_written_is_found_in_folders() -> None:
    for suffix, name in WRITABLE.items():
        assert suffix in READABLE[name]
        assert suffix in PICTURE_SUFFIXES


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
    assert (record["bytes"], record["input_bytes"]) == (size, picture.stat().st_size)
    assert record["bpp"] == pytest.approx(8 * size / (WIDTH * HEIGHT))
    assert (record["width"], record["height"]) == (WIDTH, HEIGHT)
    assert record["output"] == str(picture.with_suffix(".stf"))
    assert record["model"] == "wacnn-lite"
    (back,) = stf("decode", picture.with_suffix(".stf"), "-f", "--json").records
    assert {**back, "seconds": 0} == {
        **record,
        "input": record["output"],
        "output": record["input"],
        "input_bytes": size,
        "output_bytes": picture.stat().st_size,
        "seconds": 0,
    }


def test_the_line_of_decode_has_both_sizes(stf: Command, coded: Path) -> None:
    line = stf("decode", coded, "-o", coded.with_name("back.png")).err
    sizes = [path.stat().st_size for path in (coded.with_name("back.png"), coded)]
    assert f"{WIDTH}x{HEIGHT}, {sizes[0]} bytes from {sizes[1]} bytes, " in line


def test_the_bar_is_for_terminals(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = stf("encode", "-r", picture.parent)
    assert shown.out == b""
    assert "1/1" in shown.err
    assert "bpp" in shown.err
    assert "1/1" not in stf("encode", "-r", "-f", "--quiet", picture.parent).err


# Limits, verification -----------------------------------------------------------------------------


def test_preview_weights_are_told_of_once(stf: Command, picture: Path, tmp_path: Path) -> None:
    done = stf("encode", picture)
    assert done.err.splitlines()[1:] == [f"stfcodec: note: preview weights: {NOTE}"]
    assert stf("encode", picture, "-f", "--quiet").err == ""
    stream = picture.with_suffix(".stf")
    newest = next(r for r in reversed(releases.RELEASES) if r.model == "wacnn-lite")
    assert f"(preview {newest.version})" in stf("info", stream).out.decode()
    (record,) = stf("info", "--json", stream).records
    assert record["weights_version"] == newest.version


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
