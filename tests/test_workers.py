"""--workers: processes that code side by side. Results, bytes and errors are those of one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from commands import Command
from PIL import Image
from test_batch import Shout, make_jobs

from stfcodec import batch
from stfcodec.batch import Coded, Job, run_in_workers, useful_workers
from stfcodec.errors import ImageError, StfError, WeightsError
from stfcodec.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


class Stubborn(Shout):
    """Ends its process over some texts, and is slow with others."""

    def code(self, item: bytes) -> Coded:
        if item == b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == b"half":
            with atomic_write(Path("half.stf"), overwrite=False) as file:
                file.write(b"half")
                time.sleep(60)
        if item == b"slow":
            time.sleep(0.5)
        return super().code(item)


class Unready(Shout):
    def prepare(self) -> None:
        raise WeightsError("no weights")


class Deadly(Shout):
    def prepare(self) -> None:
        os._exit(3)


@contextmanager
def opened(task: type[Shout], errors: dict[bytes, BaseException]) -> Iterator[batch.Task]:
    yield task(errors)


def open_task(
    task: type[Shout] = Stubborn, errors: dict[bytes, BaseException] | None = None
) -> batch.OpenTask:
    return partial(opened, task, errors or {})


def test_results_come_in_order_and_outputs_are_written(tmp_path: Path) -> None:
    """The first job is the slowest. A bad file does not stop the rest."""
    jobs = make_jobs(tmp_path, ["slow", "b", "bad", "d", "e"])
    errors: dict[bytes, BaseException] = {b"bad": ImageError("cannot be read")}
    results = list(run_in_workers(jobs, open_task(errors=errors), 2))
    assert [result.job for result in results] == jobs
    assert [r.failure and r.failure[:2] for r in results] == [
        *(None, None, ("cannot be read", 3), None, None)
    ]
    assert results[1].notes == ("was b", "now louder")
    contents = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert contents == {"0.stf": b"SLOW", "1.stf": b"B", "3.stf": b"D", "4.stf": b"E"}
    again = list(run_in_workers(jobs[:2], open_task(), 2, "skip"))
    assert all(result.skipped for result in again)


@posix
def test_a_process_that_is_killed_fails_its_file_alone(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, ["kill", "b", "kill", "kill", "e", "f"])
    results = list(run_in_workers(jobs, open_task(), 2))
    failed = [result.job.source and result.job.source.name for result in results if result.failure]
    assert failed == ["0.txt", "2.txt", "3.txt"]
    failure = results[0].failure
    assert failure is not None
    assert "ended with signal 9 (Killed); if memory is short, use fewer --workers" in failure[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.stf", "4.stf", "5.stf"]


def test_a_task_that_cannot_start(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, ["a", "b"])
    with pytest.raises(StfError, match="no weights") as found:
        list(run_in_workers(jobs, open_task(Unready), 2))
    assert found.value.exit_code == WeightsError.exit_code
    with pytest.raises(StfError, match="no worker could start: its worker process ended with"):
        list(run_in_workers(jobs, open_task(Deadly), 2))


@posix
def test_an_end_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    results = run_in_workers(make_jobs(tmp_path, ["a", "half"]), open_task(), 2)
    next(results)
    while not list(tmp_path.glob(".stf-*")):
        time.sleep(0.05)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5
    assert not list(tmp_path.glob("*.stf*")) and not list(tmp_path.glob(".stf-*"))


def test_how_many_are_useful() -> None:
    jobs = [Job(Path(f"{name}.png"), Path(f"{name}.stf")) for name in "abc"]
    assert useful_workers(jobs, 2) == 2
    assert useful_workers(jobs, 9) == 3
    assert useful_workers([], 2) == 1
    assert useful_workers([*jobs, Job(None)], 2) == 1
    assert useful_workers([*jobs, Job(Path("/dev/fd/3"), Path("d.stf"))], 2) == 1
    assert useful_workers([*jobs, Job(Path("A.png"), Path("A.stf"))], 2) == 1, "perhaps one file"
    assert useful_workers([Job(job.source) for job in jobs], 2) == 2


# The command --------------------------------------------------------------------------------------


@pytest.fixture
def folder(picture: Path, tmp_path: Path) -> Path:
    """Pictures that differ, one of them damaged."""
    folder = tmp_path / "in"
    folder.mkdir()
    with Image.open(picture) as image:
        for turn in range(3):
            image.rotate(90 * turn, expand=True).save(folder / f"{turn}.png")
    (folder / "bad.png").write_bytes(picture.read_bytes()[:60])
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_bytes_are_those_of_one_process(stf: Command, tmp_path: Path) -> None:
    def run(command: str, source: str, output: str, workers: int) -> object:
        """All that a run tells and writes, but its speed and the name of its folder."""
        given = ("-r", tmp_path / source, "-o", tmp_path / output, "--workers", workers)
        outcome = stf(command, *given, "--json", "--threads", 1)
        told = [{**record, "output": "", "seconds": 0} for record in outcome.records]
        written = {path.name: path.read_bytes() for path in (tmp_path / output).iterdir()}
        return outcome.code, told, outcome.err.partition(" (")[0], written

    assert run("encode", "in", "coded 2", 2) == run("encode", "in", "coded", 1)
    assert len(list((tmp_path / "coded").iterdir())) == 3
    assert run("decode", "coded", "back 2", 2) == run("decode", "coded", "back", 1)
    shown = stf("test", "-r", tmp_path / "coded", "--workers", 2)
    assert shown.code == 0
    assert shown.out.count(b": OK, ") == 3


@pytest.mark.slow
def test_wrong_weights_are_told_of_once(stf: Command, picture: Path) -> None:
    other = Path(shutil.copy(picture, picture.with_name("b.png")))
    outcome = stf("encode", picture, other, "--workers", 2, "--weights", picture)
    assert outcome.code == 5
    assert outcome.err.count("stfcodec: error: ") == 1


@pytest.mark.slow
@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_all_processes(
    picture: Path, weights: list[str], number: signal.Signals
) -> None:
    """SIGINT reaches all of them, as that of a terminal does, and SIGTERM the first one alone."""
    folder = picture.parent
    with Image.open(picture) as image:
        for name in ("slow.png", "slower.png"):
            image.resize((1024, 768)).save(folder / name)
    command = ["encode", "-r", ".", "--workers", "2", "-e", "20", "--json", *weights]
    with subprocess.Popen(
        [sys.executable, "-m", "stfcodec", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["input"] == "photo.png"
        start = time.monotonic()
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=60)  # until no process has the pipes open
        assert time.monotonic() - start < 10
    assert process.returncode == 128 + number
    (line,) = filter(None, err.decode().splitlines()[-1:])
    assert line in ("stfcodec: error: interrupted", "stfcodec: error: terminated")
    assert b"Traceback" not in err
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["photo.png", "photo.stf", "slow.png", "slower.png"]
