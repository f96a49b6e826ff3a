"""--preserve: outputs with the times and permission bits of their sources."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from commands import Command, one_error, pipe_in

from stfcodec.errors import StfError
from stfcodec.files import write_bytes

TIMES = (981_173_106_123_456_789, 1_012_800_307_987_654_321)
"""Nanoseconds of access and modification."""


def attributes(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_atime_ns, status.st_mtime_ns, stat.S_IMODE(status.st_mode)


def age(path: Path, mode: int = 0o640) -> tuple[int, int, int]:
    path.chmod(mode)
    os.utime(path, ns=TIMES)
    return attributes(path)


def test_there_and_back(stf: Command, picture: Path, tmp_path: Path) -> None:
    """Reading may change the time of access of a source, but not what its output gets."""
    wanted = age(picture)
    stream, back = picture.with_suffix(".stf"), tmp_path / "back.png"
    assert stf("encode", picture, "--preserve").code == 0
    assert attributes(stream) == wanted
    assert stf("decode", stream, "-o", back, "--preserve").code == 0
    assert attributes(back) == wanted
    wanted = age(stream, 0o600)
    back.chmod(0o666)
    assert stf("decode", stream, "-o", back, "-f", "--preserve").code == 0
    assert attributes(back) == wanted


def test_without_the_option_files_are_new(stf: Command, picture: Path) -> None:
    age(picture)
    assert stf("encode", picture).code == 0
    assert picture.with_suffix(".stf").stat().st_mtime_ns > TIMES[1]


def test_standard_streams_have_no_times(
    stf: Command, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_error(stf("encode", picture, "-o", "-", "--preserve"), 2, "--preserve is for files")
    pipe_in(monkeypatch, picture.read_bytes())
    output = picture.with_name("b.stf")
    one_error(stf("encode", "-", "-o", output, "--preserve"), 2, "--preserve is for files")


def test_a_replaced_file_stays_where_times_cannot_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "a.png", tmp_path / "a.stf"
    for path in (source, target):
        path.write_bytes(b"old")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    with pytest.raises(StfError, match=r"cannot write .*: Operation not permitted"):
        write_bytes(target, b"new", overwrite=True, attributes=source.stat())
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.stf"]


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_pipe_passes_nothing_on(stf: Command, picture: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.utime(tmp_path / "pipe", ns=TIMES)
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[picture.read_bytes()])
    writer.start()
    assert stf("encode", tmp_path / "pipe", "-o", tmp_path / "a.stf", "--preserve").code == 0
    writer.join()
    assert (tmp_path / "a.stf").stat().st_mtime_ns > TIMES[1]
