"""Files appear whole or not at all, and `-` is a pipe, never a terminal."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stfcodec.errors import StfError, StreamError, UsageError
from stfcodec.files import (
    HEAD,
    atomic_write,
    read_bytes,
    read_file_object,
    read_standard_input,
    write_bytes,
    write_standard_output,
)

PACKAGE = Path(__file__).resolve().parents[1] / "stfcodec"
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
    write_bytes(target, b"two", overwrite=True)
    assert read_bytes(target) == b"two"
    assert list(tmp_path.iterdir()) == [target]


def test_existing_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.stf"
    target.write_bytes(b"old")
    with pytest.raises(UsageError, match=r"a\.stf exists already; use --force to replace it"):
        write_bytes(target, b"new", overwrite=False)
    assert target.read_bytes() == b"old"
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


def test_the_package_writes_files_in_one_place() -> None:
    """Nothing but `files`, and `storage` behind URLs, opens a file to write it whole."""
    writes = re.compile(
        r"\.write_text\(|(?<!files)(?<!storage)(?<!job\.output)\.write_bytes\(|open\([^)]*[\"'][wx]|save_file\("
    )
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if writes.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"files.py", "storage.py"}


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
    write_bytes(Path(os.devnull), b"data", overwrite=True)
    write_bytes(Path(os.devnull), b"data", overwrite=False)
    assert Path(os.devnull).is_char_device()


def test_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    output = StandardStream()
    monkeypatch.setattr(sys, "stdin", StandardStream(b"\r\n\x89"))
    monkeypatch.setattr(sys, "stdout", output)
    write_standard_output(read_standard_input())
    assert output.buffer.getvalue() == b"\r\n\x89"  # type: ignore[attr-defined]


class Pipe(io.RawIOBase):
    """Gives its bytes three at a time, and cannot seek."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def read(self, size: int = -1) -> bytes:
        piece, self.rest = self.rest[: min(size, 3)], self.rest[min(size, 3) :]
        return piece


def test_file_objects(tmp_path: Path) -> None:
    data = bytes(range(200))
    (tmp_path / "a.stf").write_bytes(data)
    with (tmp_path / "a.stf").open("rb") as file:
        file.read(70)
        assert read_file_object(file) == data, "it is read from its start"
        assert not file.closed
        with pytest.raises(StfError, match=r"a\.stf has more than 199 bytes"):
            read_file_object(file, limit=199)
    assert read_file_object(io.BytesIO(data), limit=200) == data
    assert read_file_object(Pipe(data)) == data  # type: ignore[arg-type]


def test_file_objects_are_checked_by_their_head() -> None:
    def refuse(head: bytes) -> None:
        assert head == bytes(HEAD)
        raise StreamError("no")

    file = io.BytesIO(bytes(1000))
    with pytest.raises(StreamError, match="no"):
        read_file_object(file, check=refuse)
    assert file.tell() == HEAD


def test_file_objects_that_fail_are_one_line() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(StfError, match=r"^cannot read the file: Input/output error$"):
        read_file_object(Broken())


def test_terminals_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    output = StandardStream(terminal=True)
    monkeypatch.setattr(sys, "stdin", StandardStream(terminal=True))
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(UsageError, match="standard input is a terminal"):
        read_standard_input()
    with pytest.raises(UsageError, match="refusing to write binary data to a terminal"):
        write_standard_output(b"\x89STF")
    assert output.buffer.getvalue() == b""  # type: ignore[attr-defined]


@posix
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_closed_pipe_is_one_error(size: int) -> None:
    script = f"""
from stfcodec.errors import StfError
from stfcodec.files import write_standard_output
try:
    write_standard_output(bytes({size}))
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


@posix
def test_a_pipe_with_a_name_is_written_to(tmp_path: Path) -> None:
    """As `-o /dev/stdout` into a pipe, or `-o >(command)`."""
    code = (
        "from pathlib import Path; from stfcodec.files import write_bytes; "
        "write_bytes(Path('/dev/stdout'), b'data', False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=PACKAGE.parent)
    assert (done.stdout, done.stderr) == (b"data", b"")


@pytest.mark.parametrize(("number", "written"), [(errno.EINVAL, True), (errno.ENOSPC, False)])
def test_a_file_system_that_cannot_sync_is_written_to(
    number: int, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if written:
        write_bytes(tmp_path / "a.stf", b"data", overwrite=False)
        assert (tmp_path / "a.stf").read_bytes() == b"data"
    else:
        with pytest.raises(StfError, match="cannot write"):
            write_bytes(tmp_path / "a.stf", b"data", overwrite=False)
        assert not list(tmp_path.iterdir())


def test_closed_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(StfError, match="standard input: it is closed"):
        read_standard_input()
    with pytest.raises(StfError, match="standard output: it is closed"):
        write_standard_output(b"data")


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(StfError, match="no name of a file"):
        read_bytes("a\0b")
