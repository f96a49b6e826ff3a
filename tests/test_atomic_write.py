"""How an output gets its name: against other writers, with its permissions, after its data."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stfcodec.errors import StfError
from stfcodec.files import OutputExistsError, atomic_write, write_bytes

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


def test_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.stf"
    with (
        pytest.raises(OutputExistsError, match="exists already"),
        atomic_write(target, False) as file,
    ):
        file.write(b"new")
        target.write_bytes(b"other")
    assert target.read_bytes() == b"other"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("has_links", [True, False])
def test_of_two_writers_the_second_gets_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    """Also where it could not see the other's file before it gave its own the name."""
    target, link = tmp_path / "a.stf", os.link

    def late(old: Path, new: Path) -> None:
        target.write_bytes(b"other")
        if not has_links:
            raise PermissionError(1, "Operation not permitted")
        link(old, new)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(OutputExistsError):
        write_bytes(target, b"new", overwrite=False)
    assert target.read_bytes() == b"other"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(old: Path, new: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_bytes(tmp_path / "a.stf", b"new", overwrite=False)
    assert (tmp_path / "a.stf").read_bytes() == b"new"


@posix
def test_mode_follows_umask(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.stf", b"", overwrite=False)
    (tmp_path / "b").touch()
    assert (tmp_path / "a.stf").stat().st_mode == (tmp_path / "b").stat().st_mode


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_mode_of_a_replaced_file_is_kept(tmp_path: Path, mode: int) -> None:
    target = tmp_path / "a.stf"
    target.touch()
    target.chmod(mode)
    with atomic_write(target, overwrite=True) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode  # before anything is in it
        file.write(b"new")
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.read_bytes() == b"new"


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_new_file_has_no_right_that_its_source_lacks(tmp_path: Path, mode: int) -> None:
    source, target = tmp_path / "a.png", tmp_path / "a.stf"
    source.touch()
    source.chmod(mode)
    before = os.umask(0o022)
    try:
        with atomic_write(target, overwrite=False, like=[source]) as file:
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode & 0o644
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == mode & 0o644


@posix
def test_a_source_that_is_gone_is_taken_for_a_private_one(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.stf", b"", overwrite=False, like=[tmp_path / "gone.png"])
    assert stat.S_IMODE((tmp_path / "a.stf").stat().st_mode) == 0o600


@posix
def test_a_pipe_has_no_permissions_to_pass_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "b").touch()
    write_bytes(tmp_path / "a.stf", b"", overwrite=False, like=[tmp_path / "pipe"])
    assert (tmp_path / "a.stf").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_a_replaced_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "a.stf"
    target.touch()
    os.chown(target, 1234, 5678)
    target.chmod(0o640)
    write_bytes(target, b"new", overwrite=True)
    status = target.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 5678, 0o640)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("mode", "expected"), [(0o640, 0o600), (0o664, 0o644), (0o604, 0o604)])
def test_another_group_gets_no_rights_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, expected: int
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    target = tmp_path / "a.stf"
    target.touch()
    os.chown(target, -1, 5678)
    target.chmod(mode)
    monkeypatch.setattr(os, "chown", refuse)
    write_bytes(target, b"new", overwrite=True)
    assert stat.S_IMODE(target.stat().st_mode) == expected


@posix
def test_data_reach_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, order = tmp_path / "a.stf", []
    fsync, replace, link = os.fsync, Path.replace, os.link

    def record_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        folder = stat.S_ISDIR(status.st_mode)
        order.append("sync the folder" if folder else f"sync {status.st_size} bytes")
        fsync(descriptor)

    def record_replace(self: Path, other: Path) -> Path:
        order.append("rename")
        return replace(self, other)

    def record_link(old: Path, new: Path) -> None:
        order.append("link")
        link(old, new)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "link", record_link)
    monkeypatch.setattr(Path, "replace", record_replace)
    write_bytes(target, b"data", overwrite=False)
    write_bytes(target, b"other", overwrite=True)
    assert order == [
        *("sync 4 bytes", "link", "sync the folder"),
        *("sync 5 bytes", "rename", "sync the folder"),
    ]


def test_folders_that_cannot_be_synced_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: Path, *arguments: int) -> int:
        if path == tmp_path:
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)  # as on Windows
    write_bytes(tmp_path / "a.stf", b"data", overwrite=False)
    assert (tmp_path / "a.stf").read_bytes() == b"data"


def test_a_full_disk_at_the_last_moment_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    target = tmp_path / "a.stf"
    target.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StfError, match=r"^cannot write .*: No space left on device$"):
        write_bytes(target, b"new", overwrite=True)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
