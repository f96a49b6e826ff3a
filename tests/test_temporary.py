"""Temporary files of killed runs are removed; those that a run still writes are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stfcodec import temporary
from stfcodec.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and signals as POSIX has them")

WRITER = """
import sys
from pathlib import Path
from stfcodec.files import atomic_write
with atomic_write(Path(sys.argv[1]), overwrite=False) as file:
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


def writer(target: Path) -> subprocess.Popen[bytes]:
    """A process that has written half of a file, and waits for its standard input to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process


def test_a_file_in_use_is_left_alone(tmp_path: Path) -> None:
    with writer(tmp_path / "a.stf") as process:
        temporary.remove_stale(tmp_path)
        process.communicate()
    assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.stf"]
    assert (tmp_path / "a.stf").read_bytes() == b"half"


def test_a_file_of_this_process_is_left_alone(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.stf", overwrite=False) as file:
        temporary.remove_stale(tmp_path)
        file.write(b"data")
    assert (tmp_path / "a.stf").read_bytes() == b"data"


def test_a_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    with writer(tmp_path / "a.stf") as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(list(tmp_path.iterdir())) == 1
    temporary.remove_stale(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "age", "stays"),
    [
        (".stf-00000000-0123456789abcdef.tmp", 60, True),  # of another machine
        (".stf-00000000-0123456789abcdef.tmp", 90_000, False),
        (".stf-0123456789abcdef.tmp", 60, True),  # of an older version, which takes no lock
        (".stf-0123456789abcdef.tmp", 90_000, False),
        (".stf-notes.tmp", 90_000, True),
        ("photo.tmp", 90_000, True),
    ],
)
def test_only_what_is_surely_ours_and_stale_goes(
    tmp_path: Path, name: str, age: int, stays: bool
) -> None:
    path = tmp_path / name
    path.touch()
    os.utime(path, (time.time() - age,) * 2)
    temporary.remove_stale(tmp_path)
    assert path.exists() == stays


def test_what_is_no_plain_file_stays(tmp_path: Path) -> None:
    scratch, file = temporary.create(tmp_path, 0o666)
    file.close()
    scratch.unlink()
    (tmp_path / "photo.stf").touch()
    scratch.symlink_to("photo.stf")
    temporary.remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"photo.stf", scratch.name}
    scratch.unlink()
    os.mkfifo(scratch)
    temporary.remove_stale(tmp_path)
    assert scratch.is_fifo()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_stays(tmp_path: Path) -> None:
    scratch, file = temporary.create(tmp_path, 0o666)
    file.close()
    os.chown(scratch, 1234, 1234)
    temporary.remove_stale(tmp_path)
    assert scratch.exists()


def test_a_folder_that_cannot_be_listed_is_passed_over(tmp_path: Path) -> None:
    temporary.remove_stale(tmp_path / "missing")
