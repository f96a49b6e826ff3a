"""What libtiff writes to standard error becomes a line of the command that names the file."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from commands import Command, one_error
from PIL import Image, features

from stfcodec.cli import native_stderr

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not features.check("libtiff"), reason="Pillow lacks libtiff")


def damaged(path: Path, compression: str, mode: str) -> Path:
    """A TIFF file whose compressed data has one byte in a hundred changed."""
    data = io.BytesIO()
    picture = Image.effect_noise((80, 64), 80).convert(mode)
    picture.save(data, "TIFF", compression=compression)
    content = bytearray(data.getvalue())
    with Image.open(data) as image:
        (start, *_) = image.tag_v2[273]
        (length, *_) = image.tag_v2[279]
    for place in range(start + 20, start + length, 100):
        content[place] ^= 0x5A
    path.write_bytes(content)
    return path


def test_damage_that_can_be_passed_over_is_a_warning(stf: Command, tmp_path: Path) -> None:
    outcome = stf("encode", damaged(tmp_path / "fax.tif", "group4", "1"))
    assert outcome.code == 0
    lines = outcome.err.splitlines()
    assert lines[0].startswith(
        f"stfcodec: warning: {tmp_path / 'fax.tif'}: may be damaged: Fax4Decode: "
    )
    assert lines[0].endswith(" and more")
    assert len(lines) == 3, "beside the file's result and the note on weights"


def test_damage_that_stops_reading_has_its_reason(stf: Command, tmp_path: Path) -> None:
    path = damaged(tmp_path / "a.tif", "tiff_adobe_deflate", "RGB")
    one_error(stf("encode", path), 3, f"{path}: damaged or cut short", "ZIPDecode: ")


def test_each_file_has_its_own_lines(stf: Command, tmp_path: Path) -> None:
    """Two pictures are read ahead while one is coded."""
    for number in range(6):
        if number % 2:
            damaged(tmp_path / f"{number}.tif", "group4", "1")
        else:
            whole = Image.effect_noise((80, 64), 80).convert("1")
            whole.save(tmp_path / f"{number}.tif", compression="group4")
    outcome = stf("encode", "-r", tmp_path)
    *warnings, summary, _ = outcome.err.splitlines()
    assert [line.split(": may be")[0] for line in warnings] == [
        f"stfcodec: warning: {tmp_path / f'{number}.tif'}" for number in (1, 3, 5)
    ]
    assert "6 coded, 0 skipped, 0 failed, 3 warnings (" in summary


def test_standard_error_is_as_it_was() -> None:
    before, stream = os.fstat(2), sys.stderr
    with native_stderr.collector() as collector:
        lines: list[str] = []
        with collector.collect(lines):
            os.write(2, b"one\n\n two. \n")
        assert lines == ["one", "two"]
        with pytest.raises(ValueError, match="no"), collector.collect(lines):
            os.write(2, b"three")
            raise ValueError("no")
        assert lines == ["one", "two", "three"]
        with collector.collect(lines):
            pass
        assert lines == ["one", "two", "three"]
    assert sys.stderr is stream
    assert os.path.sameopenfile(2, 2)
    assert (os.fstat(2).st_dev, os.fstat(2).st_ino) == (before.st_dev, before.st_ino)


def test_an_interrupted_command_does_not_wait_for_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that still reads neither holds the end up nor takes descriptor 2 with it."""
    monkeypatch.setattr(native_stderr, "_DECODING_S", 0.1)
    before = os.fstat(2)
    reading, end = threading.Event(), threading.Event()
    with native_stderr.collector() as collector:

        def read() -> None:
            with collector.collect([]):
                reading.set()
                end.wait(10)

        thread = threading.Thread(target=read)
        thread.start()
        reading.wait(10)
    assert (os.fstat(2).st_dev, os.fstat(2).st_ino) == (before.st_dev, before.st_ino)
    end.set()
    thread.join()
    assert (os.fstat(2).st_dev, os.fstat(2).st_ino) == (before.st_dev, before.st_ino)


@pytest.mark.slow
def test_in_a_process_of_its_own(tmp_path: Path, weights: list[str]) -> None:
    """There the command's messages take the same descriptor as libtiff's."""
    for number in range(3):
        damaged(tmp_path / f"{number}.tif", "group4", "1")
    (tmp_path / "3.tif").write_bytes(b"no picture")
    command = [sys.executable, "-m", "stfcodec", "encode", "-r", str(tmp_path), *weights]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    kinds = [line.split(":")[1].strip() for line in done.stderr.splitlines()[:4]]
    assert kinds == ["warning"] * 3 + ["error"]
    assert all(line.startswith("stfcodec: ") for line in done.stderr.splitlines())
