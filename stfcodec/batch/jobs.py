"""What a batch takes and gives: jobs, their results or failures, and a report over all of them."""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stfcodec.errors import StfError
from stfcodec.files import STANDARD_STREAM
from stfcodec.models import registry

if TYPE_CHECKING:
    from stfcodec.container import StreamInfo


@dataclass(frozen=True)
class Job:
    """One file to code. None stands for standard input or standard output."""

    source: Path | None
    target: Path | None

    @property
    def input(self) -> str:
        return STANDARD_STREAM if self.source is None else str(self.source)

    @property
    def output(self) -> str:
        return STANDARD_STREAM if self.target is None else str(self.target)


class Failure(NamedTuple):
    """Why a file was not coded: one line, the exit code that goes with it, and, when debugging,
    the traceback."""

    message: str
    exit_code: int
    trace: str = ""


@dataclass(frozen=True)
class Result:
    """The outcome of one job: coded (`info`), failed (`failure`) or, with neither, skipped."""

    job: Job
    info: StreamInfo | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    failure: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        """One flat record; `bytes` and `bpp` are the .stf stream's in both directions."""
        record: dict[str, Any] = {"input": self.job.input, "output": self.job.output}
        if self.failure is not None:
            record |= {"error": self.failure.message, "exit_code": self.failure.exit_code}
        elif self.info is None:
            record["skipped"] = True
        else:
            info = self.info
            record |= {
                "bytes": info.total_bytes,
                "bpp": info.bpp,
                "width": info.width,
                "height": info.height,
                "model": model_name(info.model_id),
                "quality": info.quality,
                "seconds": round(self.seconds, 4),
            }
        return record


@dataclass
class Report:
    """Counts over a run, and the exit code that sums it up."""

    single: bool
    coded: int = 0
    skipped: int = 0
    pixels: int = 0
    bytes: int = 0
    failures: list[Failure] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def add(self, result: Result) -> None:
        if result.failure is not None:
            self.failures.append(result.failure)
        elif result.info is None:
            self.skipped += 1
        else:
            self.coded += 1
            self.pixels += result.info.width * result.info.height
            self.bytes += result.info.total_bytes

    @property
    def exit_code(self) -> int:
        """0 when nothing failed; a lone file's own code; 1 when any of several failed."""
        if not self.failures:
            return 0
        return self.failures[0].exit_code if self.single else 1

    @property
    def speed(self) -> str:
        """Throughput and rate so far, e.g. "3.1 MP/s, 0.412 bpp"; empty before the first file."""
        if not self.pixels:
            return ""
        megapixels = self.pixels / 1e6 / (time.perf_counter() - self.started)
        return f"{megapixels:.2f} MP/s, {8 * self.bytes / self.pixels:.3f} bpp"

    @property
    def summary(self) -> str:
        counts = f"{self.coded} coded, {self.skipped} skipped, {len(self.failures)} failed"
        return f"{counts} ({self.speed})" if self.speed else counts


def explain(error: BaseException) -> Failure:
    """What to tell the user about an error, in one line, and the exit code.

    The traceback is kept only with STFCODEC_DEBUG set in the environment.
    """
    text = " ".join(str(error).split())
    if isinstance(error, StfError):
        failure = Failure(text, error.exit_code)
    elif _out_of_memory(error, text):
        failure = Failure("not enough memory for this picture", 1)
    elif isinstance(error, RecursionError):
        failure = Failure("the data is nested too deeply", 1)
    elif isinstance(error, OSError):
        reason = error.strerror or text or type(error).__name__
        failure = Failure(f"{error.filename}: {reason}" if error.filename else reason, 1)
    else:
        hint = "this is a bug; STFCODEC_DEBUG=1 shows the traceback"
        failure = Failure(f"unexpected {type(error).__name__}: {text} ({hint})", 1)
    if os.environ.get("STFCODEC_DEBUG"):
        failure = failure._replace(trace="".join(traceback.format_exception(error)))
    return failure


def _out_of_memory(error: BaseException, text: str) -> bool:
    # torch raises a plain RuntimeError on the CPU and its own class on CUDA.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in text for sign in ("out of memory", "not enough memory", "allocate memory"))
    )


def model_name(model_id: int) -> str:
    """The name of a model id, also of a retired one, or "unknown (id N)"."""
    if model_id in registry.RETIRED:
        return f"{registry.RETIRED[model_id]}, first generation"
    try:
        return registry.by_id(model_id).name
    except StfError:
        return f"unknown (id {model_id})"
