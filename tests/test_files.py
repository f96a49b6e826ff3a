"""Files appear whole or not at all, and `-` is a pipe, never a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stfcodec.errors import StfError, UsageError
from stfcodec.files import atomic_write, read_bytes, write_bytes

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


class StandardStream(io.TextIOWrapper):
    """Standard input or output on bytes in memory, perhaps claiming to be a terminal."""

    def __init__(self, data: bytes = b"", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def test_write_and_read(tmp_path: Path) -> None:
    target = tmp_path / "a.stf"
    write_bytes(target, b"one", overwrite=False)
    assert read_bytes(str(target)) == b"one"
    write_bytes(str(target), b"two", overwrite=True)
    assert read_bytes(target) == b"two"
    assert list(tmp_path.iterdir()) == [target]


def test_existing_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.stf"
    target.write_bytes(b"old")
    with pytest.raises(UsageError, match=r"a\.stf exists already; use --force"):
        write_bytes(target, b"new", overwrite=False)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.stf"
    with pytest.raises(UsageError, match="exists already"), atomic_write(target, False) as file:
        file.write(b"new")
        target.write_bytes(b"other")
    assert target.read_bytes() == b"other"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_failed_body_leaves_all_as_it_was(
    tmp_path: Path, error: type[BaseException], overwrite: bool
) -> None:
    target = tmp_path / "a.stf"
    if overwrite:
        target.write_bytes(b"old")
    before = list(tmp_path.iterdir())
    with pytest.raises(error), atomic_write(target, overwrite) as file:
        file.write(b"half")
        raise error
    assert list(tmp_path.iterdir()) == before
    assert not overwrite or target.read_bytes() == b"old"


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StfError) as caught, atomic_write(tmp_path / "a.stf", False):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == f"cannot write {tmp_path / 'a.stf'}: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing" / "a.stf", tmp_path / "file" / "a.stf"):
        with pytest.raises(StfError, match=r"^cannot write .*a\.stf: "):
            write_bytes(path, b"", overwrite=True)
        with pytest.raises(StfError, match=r"^cannot read .*a\.stf: "):
            read_bytes(path)
    for folder in (tmp_path, Path(tmp_path.anchor)):
        with pytest.raises(UsageError, match="is a directory; name a file"):
            write_bytes(folder, b"", overwrite=True)
    with pytest.raises(StfError, match=r"^cannot read "):
        read_bytes(tmp_path)


@posix
def test_mode_follows_umask(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.stf", b"", overwrite=False)
    (tmp_path / "b").touch()
    assert (tmp_path / "a.stf").stat().st_mode == (tmp_path / "b").stat().st_mode


@posix
def test_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, target = tmp_path / "a.stf", tmp_path / "real" / "b.stf"
    link.symlink_to(target)
    write_bytes(link, b"data", overwrite=False)
    assert link.is_symlink()
    assert target.read_bytes() == b"data"


@posix
def test_device_is_not_replaced() -> None:
    write_bytes(os.devnull, b"data", overwrite=True)
    write_bytes(os.devnull, b"data", overwrite=False)
    assert Path(os.devnull).is_char_device()


def test_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    output = StandardStream()
    monkeypatch.setattr(sys, "stdin", StandardStream(b"\r\n\x89"))
    monkeypatch.setattr(sys, "stdout", output)
    write_bytes("-", read_bytes("-"), overwrite=False)
    assert output.buffer.getvalue() == b"\r\n\x89"  # type: ignore[attr-defined]


def test_terminals_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    output = StandardStream(terminal=True)
    monkeypatch.setattr(sys, "stdin", StandardStream(terminal=True))
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(UsageError, match="standard input is a terminal"):
        read_bytes("-")
    with pytest.raises(UsageError, match="refusing to write binary data to a terminal"):
        write_bytes("-", b"\x89STF", overwrite=True)
    assert output.buffer.getvalue() == b""  # type: ignore[attr-defined]


@posix
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_closed_pipe_is_one_error(size: int) -> None:
    script = f"""
from stfcodec.errors import StfError
from stfcodec.files import write_bytes
try:
    write_bytes("-", bytes({size}), False)
except StfError as error:
    raise SystemExit(f"caught: {{error}}")
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        cwd=Path(__file__).parents[1],
    )
    os.close(writer)
    assert done.stderr == "caught: cannot write standard output: Broken pipe\n"
    assert done.returncode == 1
