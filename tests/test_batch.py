"""Batch runs, with a stand-in for the codec: order, overlap, memory, failures, exit codes."""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stfcodec import temporary
from stfcodec.batch import AHEAD, Coded, Existing, Job, Packed, Report, Result, Task, run
from stfcodec.container import StreamInfo
from stfcodec.errors import ImageError, WeightsError
from stfcodec.limits import Limits


def stream_info(total_bytes: int) -> StreamInfo:
    return StreamInfo(1, 10, 8, 3, 8, 5, "00000000", 3.0, 0, 0, 0, total_bytes, 1.0, False, ())


@dataclass
class Shout:
    """Turns text into capitals; what it is told to raise, it raises while coding."""

    errors: dict[bytes, BaseException] = field(default_factory=dict)
    taken: list[bytes] = field(default_factory=list)
    coded: list[bytes] = field(default_factory=list)
    most_ahead: int = 0

    limits = Limits(bytes=1000)

    def prepare(self) -> None: ...

    def check(self, head: bytes) -> None: ...

    def unpack(self, data: bytes) -> bytes:
        self.taken.append(data)
        return data

    def code(self, item: bytes) -> Coded:
        self.most_ahead = max(self.most_ahead, len(self.taken) - len(self.coded) - 1)
        self.coded.append(item)
        if item in self.errors:
            raise self.errors[item]
        return Coded(item.upper(), stream_info(len(item)), notes=(f"was {item.decode()}",))

    def pack(self, coded: Coded) -> Packed:
        return Packed(coded.content, ("now louder",))


def make_jobs(folder: Path, texts: list[str]) -> list[Job]:
    jobs = []
    for number, text in enumerate(texts):
        source = folder / f"{number}.txt"
        source.write_text(text)
        jobs.append(Job(source, folder / "out" / f"{number}.stf"))
    return jobs


def test_results_come_in_order_and_outputs_are_written(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, list("abcdefgh"))
    results = list(run(jobs, Shout()))
    assert [result.job for result in results] == jobs
    assert [job.output.read_bytes() for job in jobs if job.output] == [*map(str.encode, "ABCDEFGH")]
    assert results[0].notes == ("was a", "now louder")


def test_no_jobs_no_results() -> None:
    assert list(run([], Shout())) == []


def test_reading_stays_at_most_two_pictures_ahead(tmp_path: Path) -> None:
    task = Shout()
    list(run(make_jobs(tmp_path, list("abcdefghij")), task))
    assert task.most_ahead <= AHEAD == 2


def test_the_next_picture_is_read_while_one_is_coded(tmp_path: Path) -> None:
    second_read = threading.Event()

    class Watching(Shout):
        def unpack(self, data: bytes) -> bytes:
            if data == b"b":
                second_read.set()
            return data

        def code(self, item: bytes) -> Coded:
            assert second_read.wait(10), "the second file was not read during coding"
            return super().code(item)

    results = list(run(make_jobs(tmp_path, ["a", "b"]), Watching()))
    assert not any(result.failure for result in results)


def test_the_last_picture_is_saved_while_one_is_coded(tmp_path: Path) -> None:
    second_coding = threading.Event()

    class Watching(Shout):
        def code(self, item: bytes) -> Coded:
            if item == b"b":
                second_coding.set()
            return super().code(item)

        def pack(self, coded: Coded) -> Packed:
            assert second_coding.wait(10), "saving held up coding"
            return super().pack(coded)

    results = list(run(make_jobs(tmp_path, ["a", "b"]), Watching()))
    assert not any(result.failure for result in results)


def test_a_bad_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, ["a", "bad", "c"])
    jobs.insert(1, Job(tmp_path / "missing.txt", tmp_path / "out" / "missing.stf"))
    report = Report(single=False)
    results = list(run(jobs, Shout({b"bad": ImageError("cannot be read")})))
    for result in results:
        report.add(result)
    assert [result.failure is not None for result in results] == [False, True, True, False]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.stf", "2.stf"]
    assert (report.coded, report.skipped, report.failed, report.exit_code) == (2, 0, 2, 1)
    assert report.summary.startswith("2 coded, 0 skipped, 2 failed")


@pytest.mark.parametrize(
    ("existing", "content", "failed"),
    [("refuse", b"old", True), ("replace", b"A", False), ("skip", b"old", False)],
)
def test_existing_outputs(tmp_path: Path, existing: Existing, content: bytes, failed: bool) -> None:
    (job,) = make_jobs(tmp_path, ["a"])
    assert job.output is not None
    job.output.parent.mkdir()
    job.output.write_bytes(b"old")
    task = Shout()
    (result,) = run([job], task, existing)
    assert job.output.read_bytes() == content
    assert (result.failure is not None) == failed
    assert bool(task.coded) == (existing == "replace"), "nothing is coded in vain"
    if failed:
        assert result.failure is not None
        assert "--force" in result.failure.message
        assert result.failure.exit_code == 2


@pytest.mark.parametrize("existing", ["refuse", "skip"])
def test_an_output_that_another_run_finishes_first_is_kept(
    tmp_path: Path, existing: Existing
) -> None:
    class Slow(Shout):
        def pack(self, coded: Coded) -> Packed:
            output = tmp_path / "out" / "0.stf"
            output.parent.mkdir()
            output.write_bytes(b"of the other run")
            return super().pack(coded)

    (result,) = run(make_jobs(tmp_path, ["a"]), Slow(), existing)
    assert (tmp_path / "out" / "0.stf").read_bytes() == b"of the other run"
    assert (result.failure is None) == (existing == "skip")
    assert result.info is None


@pytest.mark.parametrize("existing", ["replace", "skip", "refuse"])
def test_no_output_replaces_another_of_the_same_run(tmp_path: Path, existing: Existing) -> None:
    """Two names of one file, as a.stf and A.stf are where case is ignored."""

    class Aliasing(Shout):
        def pack(self, coded: Coded) -> Packed:
            first, second = tmp_path / "out" / "0.stf", tmp_path / "out" / "1.stf"
            if first.exists():
                second.hardlink_to(first)
            return super().pack(coded)

    first, second = run(make_jobs(tmp_path, ["a", "b"]), Aliasing(), existing)
    assert first.failure is None
    assert second.failure is not None
    assert "another file of this run" in second.failure.message
    assert (tmp_path / "out" / "0.stf").read_bytes() == b"A"


def test_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, ["a", "b"])
    out = tmp_path / "out"
    out.mkdir()
    scratch, file = temporary.create(out, 0o666)
    file.close()  # the lock is gone, as when its process is
    list(run(jobs, Shout()))
    assert not scratch.exists()
    assert sorted(path.name for path in out.iterdir()) == ["0.stf", "1.stf"]


def test_a_file_that_vanishes_does_not_stop_the_rest(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, list("abcdef"))

    class Vanishing(Shout):
        def code(self, item: bytes) -> Coded:
            (tmp_path / "5.txt").unlink(missing_ok=True)
            return super().code(item)

    failures = [result.failure for result in run(jobs, Vanishing())]
    assert [failure is None for failure in failures] == [True] * 5 + [False]
    assert failures[5] is not None
    assert "5.txt: No such file" in failures[5].message


def test_a_folder_that_cannot_be_made_does_not_stop_the_rest(tmp_path: Path) -> None:
    first, second = make_jobs(tmp_path, ["a", "b"])
    (tmp_path / "file").touch()
    results = list(run([Job(first.source, tmp_path / "file" / "0.stf"), second], Shout()))
    assert [result.failure is None for result in results] == [False, True]
    assert results[0].failure is not None
    assert f"cannot make the folder {tmp_path / 'file'}" in results[0].failure.message


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_an_interrupt_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (job,) = make_jobs(tmp_path, ["a"])
    jobs = [job, Job(tmp_path / "pipe", tmp_path / "out" / "pipe.stf")]
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(run(jobs, Shout({b"a": KeyboardInterrupt()})))
    assert time.monotonic() - start < 5
    os.close(os.open(tmp_path / "pipe", os.O_WRONLY))  # lets the thread end


@pytest.mark.skipif(os.name != "posix", reason="modes as POSIX has them")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_an_output_is_as_private_as_its_source(tmp_path: Path, mode: int) -> None:
    (job,) = make_jobs(tmp_path, ["a"])
    assert job.source is not None
    assert job.output is not None
    job.source.chmod(mode)
    list(run([job], Shout()))
    (tmp_path / "new").touch()
    usual = (tmp_path / "new").stat().st_mode
    assert stat.S_IMODE(job.output.stat().st_mode) == stat.S_IMODE(mode & usual)


def test_an_interrupt_stops_the_run_and_leaves_whole_files_only(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, list("abcd"))
    results: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        results.extend(run(jobs, Shout({b"c": KeyboardInterrupt()})))
    assert len(results) == 1
    left = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert left == {"0.stf": b"A", "1.stf": b"B"}


def test_nothing_starts_when_the_task_cannot(tmp_path: Path) -> None:
    class Unready(Shout):
        def prepare(self) -> None:
            raise WeightsError("no weights")

    task: Task = Unready()
    with pytest.raises(WeightsError):
        list(run(make_jobs(tmp_path, ["a"]), task))


def test_nothing_is_loaded_for_files_that_cannot_be_coded(tmp_path: Path) -> None:
    class Unready(Shout):
        def prepare(self) -> None:
            raise WeightsError("no weights")

        def check(self, head: bytes) -> None:
            if head == b"bad":
                raise ImageError("no picture")

    missing, bad, done = make_jobs(tmp_path, ["missing", "bad", "done"])
    assert missing.source is not None
    assert done.output is not None
    missing.source.unlink()
    done.output.parent.mkdir()
    done.output.write_bytes(b"old")
    messages = [r.failure.message for r in run([missing, bad, done], Unready()) if r.failure]
    for message, words in zip(messages, ["No such file", "no picture", "exists"], strict=True):
        assert words in message
    assert [r.failure for r in run([done], Unready(), "skip")] == [None]


@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
def test_a_first_look_takes_nothing_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[b"text"])
    writer.start()
    task = Shout()
    list(run([Job(tmp_path / "pipe", tmp_path / "out.stf")], task))
    writer.join()
    assert task.coded == [b"text"]
