"""The other commands, and what the user sees when something goes wrong: exit codes and messages."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from commands import HEIGHT, WIDTH, Command, one_error

from stfcodec import batch, container
from stfcodec.cli.main import main
from stfcodec.entropy import rans

ROOT = Path(__file__).resolve().parent.parent

# Commands -----------------------------------------------------------------------------------------


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


def test_info_names_the_version_of_retired_models(stf: Command, coded: Path) -> None:
    stream = container.read(coded.read_bytes())
    header = replace(stream.header, model_id=1, fingerprint=bytes.fromhex("39c281b3"))
    coded.write_bytes(container.write(replace(stream, header=header)))
    assert "39c281b3 (preview 0.1.0)" in stf("info", coded).out.decode()
    (record,) = stf("info", "--json", coded).records
    assert record["weights_version"] == "0.1.0"


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


@pytest.mark.slow
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


def test_settings_of_the_garbage_collector_come_back() -> None:
    before = gc.get_threshold()
    assert main(["--version"]) == 0
    assert gc.get_threshold() == before
