"""The command in a shell: closed and full streams, pipes, names of open files, signals.

Commands that do not load the codec stand for all of them, where the codec has no part.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="a shell as POSIX has it"),
    pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash"),
]
STF = shlex.join([sys.executable, "-m", "stfcodec"])
NO_SPACE = "cannot write standard output: No space left on device"
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def bash(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a line in which `stf` is the command."""
    script = f'set -o pipefail\nstf() {{ {STF} "$@"; }}\n{line}\n'
    return subprocess.run(
        ["/bin/bash", "-c", script],
        capture_output=True,
        env=environment(),
        cwd=folder,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("command", ["models", "--version", "info a.stf", "info a.stf --json"])
@pytest.mark.parametrize(
    ("stdout", "message"),
    [
        (">&-", "cannot write standard output: it is closed"),
        pytest.param(">/dev/full", NO_SPACE, marks=full),
    ],
)
def test_results_that_cannot_be_written(
    coded: Path, command: str, stdout: str, message: str
) -> None:
    coded.rename(coded.with_name("a.stf"))
    done = bash(f"stf {command} {stdout}", coded.parent)
    assert done.returncode == 1
    assert done.stderr.decode() == f"stfcodec: error: {message}\n"


@full
def test_help_on_a_full_disk(tmp_path: Path) -> None:
    done = bash("stf --help > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == b"stfcodec: error: No space left on device\n"


@pytest.mark.parametrize(
    "command", ["models", "info a.stf --json a.stf", "decode a.stf --dry-run", "--help"]
)
def test_nobody_reads_on(coded: Path, command: str) -> None:
    coded.rename(coded.with_name("a.stf"))
    done = bash(f"(sleep 0.5; stf {command}) | true", coded.parent)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("stderr", ["2>&-", pytest.param("2>/dev/full", marks=full)])
def test_messages_that_cannot_be_written(tmp_path: Path, stderr: str) -> None:
    done = bash(f"stf info none.stf {stderr}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    done = bash(f"stf nonsense {stderr}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


def test_closed_standard_input(tmp_path: Path) -> None:
    done = bash("stf info - <&-", tmp_path)
    assert done.returncode == 1
    assert done.stderr == b"stfcodec: error: cannot read standard input: it is closed\n"


@pytest.mark.slow
def test_closed_streams_are_not_taken_for_files(picture: Path, coded: Path) -> None:
    """Their numbers would go to the files that are opened next, and messages into these."""
    first = bash("stf encode photo.png -o a.stf", picture.parent)
    assert first.returncode == 0
    done = bash("stf encode photo.png -o b.stf <&- >&- 2>&-", picture.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (picture.parent / "a.stf").read_bytes() == (picture.parent / "b.stf").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "stf encode photo.png -o /dev/stdout | cat > b.stf",
        "stf encode photo.png -o /dev/stdout > b.stf",
        "stf encode photo.png -o /dev/fd/3 3> b.stf",
        "stf encode photo.png -o >(cat > b.stf); for i in 1 2 3; do test -s b.stf || sleep 1; done",
        "stf encode <(cat photo.png) -o b.stf",
        "stf encode /dev/stdin < photo.png > b.stf",
        "mkfifo in out; cat photo.png > in & cat out > b.stf & stf encode in -o out; wait",
        "(stf encode photo.png -o ./- && mv ./- b.stf)",
        "(cp photo.png ./-; stf encode ./- -o b.stf)",
    ],
)
def test_names_of_streams_and_files(picture: Path, line: str) -> None:
    """Each line codes photo.png as b.stf."""
    if not Path("/dev/fd").exists():
        pytest.skip("needs /dev/fd")
    done = bash(line, picture.parent)
    assert done.returncode == 0, done.stderr
    facts = bash("stf info b.stf", picture.parent)
    assert facts.returncode == 0, facts.stderr


@full
@pytest.mark.slow
def test_a_full_disk_leaves_nothing(picture: Path) -> None:
    for output, name in (("/dev/full", "/dev/full"), ("- > /dev/full", "standard output")):
        done = bash(f"stf encode photo.png -o {output}", picture.parent)
        assert done.returncode == 1
        wanted = f"stfcodec: error: photo.png: cannot write {name}: No space left on device\n"
        assert done.stderr.decode() == wanted
    assert [path.name for path in picture.parent.iterdir()] == ["photo.png"]


@pytest.mark.slow
def test_a_run_goes_on_without_its_records(picture: Path) -> None:
    """Coding is what was asked for; the exit code tells that records are missing."""
    for _ in range(2):
        done = bash("stf encode -r -f . --json | true", picture.parent)
        assert done.returncode == 1
        assert b"1 coded, 0 skipped, 0 failed" in done.stderr
        assert b"Traceback" not in done.stderr


def test_what_has_no_name_needs_one_for_the_output(tmp_path: Path) -> None:
    done = bash("stf encode <(cat photo.png)", tmp_path)
    assert done.returncode == 2
    assert b"has no name to use; give -o a file name" in done.stderr


def test_a_name_that_the_encoding_lacks(coded: Path) -> None:
    coded.rename(coded.with_name("caf\u00e9.stf"))
    done = bash("PYTHONIOENCODING=ascii stf info caf*.stf", coded.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"caf\\xe9.stf:\n")


WAITING = """
import sys, time
from pathlib import Path
from stfcodec import batch
from stfcodec.cli import main
from stfcodec.files import atomic_write

def code(self, item):
    with atomic_write(Path("half.stf"), overwrite=False) as file:
        file.write(b"half")
        print("coding", flush=True)
        time.sleep(60)

batch.Encode.code = code
sys.exit(main.main(sys.argv[1:]))
"""


def _heed_signals() -> None:
    """What a shell runs in the background ignores SIGINT, and so would this child of it."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "word"),
    [
        (signal.SIGTERM, "terminated"),
        (signal.SIGHUP, "hung up"),
        (signal.SIGINT, "interrupted"),
    ],
)
def test_signals_leave_nothing_half_written(
    picture: Path, weights: list[str], number: signal.Signals, word: str
) -> None:
    command = [sys.executable, "-c", WAITING, "encode", "-r", ".", *weights]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=picture.parent,
        preexec_fn=_heed_signals,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"coding\n"
        assert len(list(picture.parent.iterdir())) == 2
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.decode().strip() == f"stfcodec: error: {word}"
    assert [path.name for path in picture.parent.iterdir()] == ["photo.png"]


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored(picture: Path, weights: list[str]) -> None:
    pipe = picture.with_name("late.png")
    os.mkfifo(pipe)
    command = ["nohup", sys.executable, "-m", "stfcodec", "encode", str(pipe), *weights]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as process:
        with pipe.open("wb") as file:  # opens once the command reads
            process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            file.write(picture.read_bytes())
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert pipe.with_suffix(".stf").exists()
