"""Coding many files: reading, coding and saving overlap, and a bad file does not stop the rest."""

from __future__ import annotations

import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from stfcodec import files
from stfcodec.errors import StfError, UsageError
from stfcodec.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from stfcodec.container import StreamInfo
    from stfcodec.rate_control import Target

AHEAD = 2  # pictures held in memory beside the one being coded

Existing = Literal["refuse", "replace", "skip"]


class Failure(NamedTuple):
    """Why a file was not coded: one line, the exit code that goes with it, and, when debugging,
    the traceback."""

    message: str
    exit_code: int
    trace: str = ""


@dataclass(frozen=True)
class Job:
    """One file to code. None stands for standard input or standard output."""

    source: Path | None
    target: Path | None

    @property
    def input(self) -> str:
        return "-" if self.source is None else str(self.source)

    @property
    def output(self) -> str:
        return "-" if self.target is None else str(self.target)


@dataclass(frozen=True)
class Coded:
    """What coding one file gave: the stream's facts, and what is still to be packed into bytes."""

    content: Any
    info: StreamInfo
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class Packed(NamedTuple):
    """An output file's bytes, and what had to be left out of it."""

    data: bytes
    notes: tuple[str, ...] = ()


class Task(Protocol):
    """One direction of the codec. Only `code` runs in the calling thread."""

    @property
    def limits(self) -> Limits: ...

    def prepare(self) -> None:
        """Load what every file needs; raises StfError where no file could be coded."""

    def check(self, head: bytes) -> None:
        """Raises what there is against a file that starts like this."""

    def unpack(self, data: bytes) -> Any:
        """From a file's bytes to what `code` takes."""

    def code(self, item: Any) -> Coded: ...

    def pack(self, coded: Coded) -> Packed:
        """From what `code` gave to the output file."""


@dataclass(frozen=True)
class Encode:
    """Pictures to .stf streams."""

    model: str
    quality: float
    device: str = "auto"
    weights: Path | None = None
    strip: bool = False
    effort: int = 0
    target: Target | None = None
    verify: bool = False
    limits: Limits = DEFAULT_LIMITS

    def prepare(self) -> None:
        from stfcodec.codec import codec_for
        from stfcodec.models import registry

        info = registry.by_name(self.model)
        codec_for(info, self.quality, self.device, self.weights, searches=self.effort > 0)

    def check(self, head: bytes) -> None:
        """Which pictures can be read shows when they are."""

    def unpack(self, data: bytes) -> Any:
        from stfcodec import imageio

        picture = imageio.read_picture(data, self.limits)
        return replace(picture, icc=None, exif=None, xmp=None) if self.strip else picture

    def code(self, item: Any) -> Coded:
        from stfcodec import api, container

        data = api.encode(
            item,
            self.model,
            self.quality,
            self.device,
            self.weights,
            self.effort,
            self.target,
            self.limits,
            self.verify,
        )
        return Coded(data, container.inspect(data), item.notes)

    def pack(self, coded: Coded) -> Packed:
        return Packed(coded.content)


@dataclass(frozen=True)
class Decode:
    """.stf streams to pictures in one file format (a Pillow name, such as PNG)."""

    format: str = "PNG"
    device: str = "auto"
    weights: Path | None = None
    limits: Limits = DEFAULT_LIMITS

    def prepare(self) -> None:
        # In the calling thread: two threads must not import numpy at the same time.
        from stfcodec import api  # noqa: F401

    def check(self, head: bytes) -> None:
        from stfcodec import container

        container.check_signature(head)

    def unpack(self, data: bytes) -> bytes:
        return data

    def code(self, item: bytes) -> Coded:
        from stfcodec import api, container

        info = container.inspect(item)
        picture = api.decode_picture(item, self.device, self.weights, self.limits)
        return Coded(picture, info, picture.notes)

    def pack(self, coded: Coded) -> Packed:
        from io import BytesIO

        from stfcodec import imageio

        buffer = BytesIO()
        notes = imageio.write_picture(coded.content, buffer, self.format)
        return Packed(buffer.getvalue(), notes)


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


def run(jobs: Iterable[Job], task: Task, existing: Existing = "refuse") -> Iterator[Result]:
    """Code every job and yield one result each, in the order of `jobs`.

    A job's failure becomes its result. At most AHEAD inputs wait in memory, and one output is
    being saved, while another is coded. Raises StfError where `task` cannot start at all.
    """
    task.prepare()
    upcoming = iter(jobs)
    with ThreadPoolExecutor(max_workers=AHEAD + 1) as pool:
        # The first input is read in this thread, where Ctrl-C ends a wait for a silent pipe.
        waiting: deque[tuple[Job, Callable[[], Any]]] = deque(
            (job, partial(_load, task, job, existing)) for job in islice(upcoming, 1)
        )
        saving: Future[Result] | None = None
        while waiting:
            job, load = waiting.popleft()
            for later in islice(upcoming, AHEAD - len(waiting)):
                waiting.append((later, pool.submit(_load, task, later, existing).result))
            coded = _code(task, load)
            del load  # it holds the picture
            if saving is not None:
                yield saving.result()
            saving = pool.submit(_save, task, job, coded, existing)
            del coded
        if saving is not None:
            yield saving.result()


def _load(task: Task, job: Job, existing: Existing) -> Any:
    """Read one input; None where its output is there already and is to be kept."""
    if job.target is not None and job.target.is_file():  # a device or pipe can be written to
        if existing == "skip":
            return None
        if existing == "refuse":
            raise UsageError(f"output {job.output} exists already; use --force to replace it")
    source = "-" if job.source is None else job.source
    return task.unpack(files.read_bytes(source, task.limits.bytes, task.check))


def _code(task: Task, load: Callable[[], Any]) -> Coded | Failure | None:
    try:
        item = load()
        if item is None:
            return None
        start = time.perf_counter()
        coded = task.code(item)
    except Exception as error:
        return explain(error)
    return replace(coded, seconds=time.perf_counter() - start)


def _save(task: Task, job: Job, coded: Coded | Failure | None, existing: Existing) -> Result:
    if coded is None or isinstance(coded, Failure):
        return Result(job, failure=coded)
    try:
        data, notes = task.pack(coded)
        if job.target is None:
            files.write_bytes("-", data, overwrite=True)
        else:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(job.target, data, overwrite=existing == "replace")
    except Exception as error:
        return Result(job, failure=explain(error))
    return Result(job, coded.info, coded.seconds, coded.notes + notes)


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
    """The registered name of a model id, also of one that is gone, or "unknown (id N)"."""
    from stfcodec.models import registry

    if model_id in registry.RETIRED:
        return f"{registry.RETIRED[model_id]}, first generation"
    try:
        return registry.by_id(model_id).name
    except StfError:
        return f"unknown (id {model_id})"
