"""What a batch tells: results as records, errors as one line, and the summary of a run."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import pytest

from stfcodec.batch import Job, Report, Result, explain
from stfcodec.container import StreamInfo
from stfcodec.errors import ImageError, StreamError, UsageError, WeightsError


def stream_info(total_bytes: int) -> StreamInfo:
    return StreamInfo(1, 10, 8, 3, 8, 5, "00000000", 3.0, 0, 0, 0, total_bytes, 1.0, False, ())


def test_a_lone_file_gives_its_own_exit_code() -> None:
    failed = Result(Job(Path("a"), Path("b")), failure=explain(StreamError("damaged")))
    alone, among_others = Report(single=True), Report(single=False)
    alone.add(failed)
    among_others.add(failed)
    assert (alone.exit_code, among_others.exit_code, Report(single=True).exit_code) == (4, 1, 0)


@pytest.mark.parametrize(
    ("error", "exit_code", "words"),
    [
        (UsageError("two\nlines"), 2, "two\\nlines"),
        (MemoryError(), 1, "not enough memory: close other programs"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1, "not enough memory"),
        (ImportError("libtorch.so: failed to map segment from shared object"), 1, "not enough"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 1, "--device cpu"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "not enough memory"),
        (ModuleNotFoundError("No module", name="torch"), 1, "pip install torch"),
        (RecursionError("maximum recursion depth exceeded"), 1, "nested too deeply"),
        (PermissionError(13, "Permission denied", "a.png"), 1, "a.png: Permission denied"),
        (KeyError("y"), 1, "unexpected KeyError: 'y' (this is a bug; STFCODEC_DEBUG=1"),
    ],
)
def test_every_error_is_one_line(error: Exception, exit_code: int, words: str) -> None:
    failure = explain(error)
    assert words in failure.message
    assert "\n" not in failure.message
    assert (failure.exit_code, failure.trace) == (exit_code, "")


def test_a_lack_of_memory_is_not_taken_for_damage() -> None:
    def misjudge() -> None:
        try:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        except RuntimeError:
            raise WeightsError("damaged") from None

    with pytest.raises(WeightsError) as caught:
        misjudge()
    assert "not enough memory" in explain(caught.value).message
    assert explain(WeightsError("damaged")).message == "damaged"


def test_the_summary_counts_warnings_and_files_left_out() -> None:
    job = Job(Path("a.png"), Path("a.stf"))
    report = Report(single=False, left_out=Counter({".txt": 2, "hidden": 1}))
    report.add(Result(job, stream_info(20), notes=("one", "two")))
    assert report.summary.startswith(
        "1 coded, 0 skipped, 0 failed, 2 warnings, 3 other files left out: 2 .txt, 1 hidden ("
    )


def test_the_summary_says_what_is_left_of_pictures() -> None:
    job = Job(Path("a.png"), Path("a.stf"))
    reports = [Report(single=False, encodes=encodes) for encodes in (True, False)]
    for report in reports:
        report.add(Result(job, stream_info(20), input_bytes=1000))
        report.add(Result(job, stream_info(20), input_bytes=600))
        report.add(Result(job))
    assert reports[0].summary.endswith(" bpp, 2.5 % of the source)")
    assert reports[1].summary.endswith(" bpp)")


def test_debugging_keeps_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STFCODEC_DEBUG", "1")
    try:
        raise KeyError("y")
    except KeyError as error:
        failure = explain(error)
    assert failure.trace.startswith("Traceback")
    assert "\n" not in failure.message


def test_a_file_named_dash_is_told_from_a_standard_stream() -> None:
    stream, file = Job(None, None), Job(Path("-"), Path("./-"))
    assert (stream.input_name, stream.output_name) == ("-", "-")
    assert (file.input_name, file.output_name) == ("./-", "./-")


def test_records_for_json(tmp_path: Path) -> None:
    job = Job(None, tmp_path / "a.stf")
    assert Result(job).to_json() == {"input": "-", "output": job.output_name, "skipped": True}
    failed = Result(job, failure=explain(ImageError("not an image"))).to_json()
    assert (failed["error"], failed["exit_code"]) == ("not an image", 3)
    coded = Result(job, stream_info(20), 400, seconds=0.5, output_bytes=20).to_json()
    assert coded == {
        "input": "-",
        "output": job.output_name,
        "input_bytes": 400,
        "output_bytes": 20,
        "bytes": 20,
        "bpp": 1.0,
        "width": 10,
        "height": 8,
        "model": "wacnn-lite",
        "quality": 3.0,
        "seconds": 0.5,
    }
