"""What a batch takes and gives: jobs, their results or failures, and a report over all of them."""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stfcodec.errors import StfError, StorageError, one_line, printable
from stfcodec.models import registry
from stfcodec.storage import Sink, Source

if TYPE_CHECKING:
    from stfcodec.container import StreamInfo


@dataclass(frozen=True)
class AnyJob:
    """One picture or stream to code: a file, what lies behind a URL, or a part of a shard."""

    source: Path | Source | None
    output: Path | Sink | None = None

    @property
    def input_name(self) -> str:
        return _name(self.source)

    @property
    def output_name(self) -> str:
        return _name(self.output)


@dataclass(frozen=True)
class Job(AnyJob):
    """One file to code. None stands for standard input or standard output.

    What gives no output, such as `Verify`, has jobs whose output is None, too.
    """

    source: Path | None
    output: Path | None = None


def _name(path: Path | Source | Sink | None) -> str:
    """What the command line calls a file: `-` is a standard stream, `./-` a file of that name."""
    if path is None:
        return "-"
    return "./-" if str(path) == "-" else str(path)


class Failure(NamedTuple):
    """Why a file was not coded: one line, the exit code that goes with it, and, when debugging,
    the traceback."""

    message: str
    exit_code: int
    trace: str = ""
    of_storage: bool = False
    """Where outputs go takes none; nothing is wrong with this file."""


@dataclass(frozen=True)
class Result:
    """The outcome of one job: coded (`info`), failed (`failure`), planned, or else skipped."""

    job: AnyJob
    info: StreamInfo | None = None
    input_bytes: int = 0
    output_bytes: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    failure: Failure | None = None
    size: tuple[int, int] | None = None
    """Width and height of the output; None where they are the stream's."""
    checksum: str = ""
    """SHA-256 of the input, in hexadecimal."""
    psnr: float | None = None
    """Of the picture that the stream decodes to, in dB, where the task measures it."""
    planned: bool = False
    """Nothing was done, and without a dry run the file would be coded."""

    @property
    def skipped(self) -> bool:
        return self.info is None and self.failure is None and not self.planned

    def to_json(self) -> dict[str, Any]:
        """One flat record; `bytes` and `bpp` are the .stf stream's in both directions."""
        record: dict[str, Any] = {"input": self.job.input_name, "output": self.job.output_name}
        if self.failure is not None:
            record |= {"error": self.failure.message, "exit_code": self.failure.exit_code}
        elif self.skipped:
            record["skipped"] = True
        elif (info := self.info) is not None:
            width, height = self.size or (info.width, info.height)
            record |= {
                "input_bytes": self.input_bytes,
                "output_bytes": self.output_bytes,
                "bytes": info.total_bytes,
                "bpp": info.bpp,
                "width": width,
                "height": height,
                "model": model_name(info.model_id),
                "quality": info.quality,
                "seconds": round(self.seconds, 4),
            }
        return record


_KINDS = 5
"""Most kinds of files left out that a summary names."""


class Words(NamedTuple):
    """What a summary calls the outcomes of jobs. None: there are none of that kind."""

    coded: str = "coded"
    skipped: str | None = "skipped"
    failed: str = "failed"


@dataclass
class Report:
    """Counts over a run, and the exit code that sums it up.

    single: the user named one file. encodes: inputs are pictures, whose bytes are compared to those
    of the streams. left_out: how many files in folders were not taken, by kind. words: those of the
    summary.
    """

    single: bool
    encodes: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    words: Words = field(default_factory=Words)
    coded: int = 0
    skipped: int = 0
    warnings: int = 0
    pixels: int = 0
    bytes: int = 0
    input_bytes: int = 0
    failed: int = 0
    failure: Failure | None = None
    """The first one."""
    started: float = field(default_factory=time.perf_counter)

    def add(self, result: Result) -> None:
        self.warnings += len(result.notes)
        if result.failure is not None:
            self.failed += 1
            self.failure = self.failure or result.failure
        elif result.skipped:
            self.skipped += 1
        else:
            self.coded += 1
        if result.info is not None:
            self.pixels += result.info.width * result.info.height
            self.bytes += result.info.total_bytes
            self.input_bytes += result.input_bytes

    @property
    def exit_code(self) -> int:
        """0 when nothing failed; a lone file's own code; 1 when any of several failed."""
        if self.failure is None:
            return 0
        return self.failure.exit_code if self.single else 1

    @property
    def speed(self) -> str:
        """Throughput and rate so far, e.g. "3.1 MP/s, 0.412 bpp"; empty before the first file."""
        if not self.pixels:
            return ""
        megapixels = self.pixels / 1e6 / (time.perf_counter() - self.started)
        return f"{megapixels:.2f} MP/s, {8 * self.bytes / self.pixels:.3f} bpp"

    @property
    def summary(self) -> str:
        text = f"{self.coded} {self.words.coded}, "
        if self.words.skipped is not None:
            text += f"{self.skipped} {self.words.skipped}, "
        text += f"{self.failed} {self.words.failed}"
        if self.warnings:
            text += f", {self.warnings} warning" + "s" * (self.warnings > 1)
        if count := self.left_out.total():
            kinds = [f"{n} {kind}" for kind, n in self.left_out.most_common(_KINDS)]
            more = ["…"] * (len(self.left_out) > _KINDS)
            text += f", {count} other file" + "s" * (count > 1)
            text += f" left out: {', '.join(kinds + more)}"
        if not self.pixels:
            return text
        return f"{text} ({self.speed}{self.share(self.bytes, self.input_bytes)})"

    def share(self, stream_bytes: int, picture_bytes: int) -> str:
        """What share of the bytes of pictures streams have, after a comma; empty in decoding."""
        if not (self.encodes and picture_bytes):
            return ""
        return f", {stream_bytes / picture_bytes:.1%} of the source".replace("%", " %")


_MEMORY_SIGNS = (
    "out of memory",
    "not enough memory",
    "allocate memory",
    "failed to map segment",
    "bad_alloc",
)
_SHORTAGE = (
    "not enough memory: close other programs, raise the memory limit or take a smaller picture"
)


def explain(error: BaseException) -> Failure:
    """What to tell the user about an error, in one line, and the exit code.

    The traceback is kept only with STFCODEC_DEBUG set in the environment.
    """
    if (shortage := _out_of_memory(error)) is not None:
        failure = Failure(shortage, 1)
    elif isinstance(error, StfError):
        is_of_storage = isinstance(error, StorageError)
        failure = Failure(printable(str(error)), error.exit_code, of_storage=is_of_storage)
    elif isinstance(error, ModuleNotFoundError) and error.name == "torch":
        failure = Failure("coding needs torch, which is not installed: pip install torch", 1)
    elif isinstance(error, RecursionError):
        failure = Failure("the data is nested too deeply", 1)
    elif isinstance(error, OSError):
        reason = error.strerror or one_line(error)
        name = f"{printable(str(error.filename))}: " if error.filename else ""
        failure = Failure(name + reason, 1)
    else:
        hint = "this is a bug; STFCODEC_DEBUG=1 shows the traceback"
        failure = Failure(f"unexpected {type(error).__name__}: {one_line(error)} ({hint})", 1)
    if os.environ.get("STFCODEC_DEBUG"):
        failure = failure._replace(trace="".join(traceback.format_exception(error)))
    return failure


def _out_of_memory(error: BaseException) -> str | None:
    """What to do about a lack of memory; None for other errors.

    Whoever caught the error may have taken it for damage, so it counts below another one, too.
    """
    origin = error
    while isinstance(origin, StfError):
        if origin.__context__ is None:
            return None
        origin = origin.__context__
    text = str(origin).lower()
    if "cuda" in text and "out of memory" in text:
        return "not enough memory on the GPU: --device cpu uses that of the machine"
    # Libraries raise errors of their own for it: torch RuntimeError, the loader ImportError.
    is_shortage = (
        isinstance(origin, MemoryError)
        or (isinstance(origin, OSError) and origin.errno == errno.ENOMEM)
        or any(sign in text for sign in _MEMORY_SIGNS)
    )
    return _SHORTAGE if is_shortage else None


def model_name(model_id: int) -> str:
    """The name of a model id, also of a retired one, or "unknown (id N)"."""
    if model_id in registry.RETIRED:
        return f"{registry.RETIRED[model_id]}, first generation"
    try:
        return registry.by_id(model_id).name
    except StfError:
        return f"unknown (id {model_id})"
