"""Decodes streams in a process of its own, within limits, and says what came of each."""

from __future__ import annotations

import io
import math
import random
import resource
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import PIL.Image

from stfcodec import api, imageio
from stfcodec.entropy import rans, rans_compiled, rans_python
from stfcodec.errors import ImageError, StreamError, WeightsError
from tests.format_reader import RefusedError, read
from tests.fuzz.hostile import hostile
from tests.fuzz.stream import Fields

CPU_SECONDS = 10
MEMORY = 3 << 29
"""Bytes that a stream may cost beyond what the decoder takes anyway: 1.5 GiB."""

ALLOWED = (StreamError, WeightsError, ImageError)
MODES = {(1, False): "L", (1, True): "LA", (3, False): "RGB", (3, True): "RGBA"}


class Verdict(NamedTuple):
    """What one decoding ended in. `outcome` names it, and `finding` says what is wrong with it."""

    outcome: str
    message: str = ""
    symbols: int = 0
    """CRC-32 of the symbols that were decoded."""
    finding: str = ""


def serve(connection: Connection, seeds: list[bytes], hostile_seed: str, count: int) -> None:
    """Decodes what comes through the connection: (stream, name of the coder), None to end.

    Answers with a Verdict each time. Starts with the verdicts on the seeds, and with so many
    hostile streams.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    connection.send([decode(seed, coder) for coder in ("python", "compiled") for seed in seeds])
    rng = random.Random(hostile_seed)
    connection.send([hostile(rng) for _ in range(count)])
    limit_memory()
    base = peak_memory()
    while (work := connection.recv()) is not None:
        limit_time()
        verdict = decode(*work)
        if peak_memory() - base > MEMORY and not verdict.finding:
            verdict = verdict._replace(finding="memory")
        connection.send(verdict)


def limit_time() -> None:
    """The process is ended when this stream takes longer. Seconds are whole ones."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(usage.ru_utime + usage.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def limit_memory() -> None:
    """Allocations beyond MEMORY fail from now on."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def peak_memory() -> int:
    """The most memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def decode(data: bytes, coder: str) -> Verdict:
    """Decodes one stream, writes its picture as the command line does, and judges both."""
    with recording(coder) as symbols:
        try:
            picture = api.decode_picture(data, device="cpu")
            imageio.write_picture(picture, io.BytesIO())
        except ALLOWED as error:
            return refusal(error, symbols.crc)
        except Exception as error:
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return Verdict(type(error).__name__, text, symbols.crc, "unexpected error")
    return Verdict("picture", "", symbols.crc, fault(imageio.to_image(picture), data, symbols.crc))


def refusal(error: Exception, crc: int) -> Verdict:
    text, finding = str(error), ""
    if not text or not text.isprintable() or len(text) > 300:
        finding = "message is not one readable line"
    elif " object at 0x" in text:
        finding = "message changes from run to run"
    elif "memory" in text:
        finding = "memory"
    return Verdict(type(error).__name__, text, crc, finding)


def fault(image: PIL.Image.Image, data: bytes, crc: int) -> str:
    """What is wrong with a picture; empty where nothing is."""
    try:
        facts = read(data)
    except RefusedError as error:
        return f"decoded, though {error}"
    if crc != facts["checksum"]:
        return "decoded symbols do not have the checksum"
    if image.size != (facts["width"], facts["height"]):
        return f"picture has size {image.size}"
    if image.mode != MODES[facts["channels"], facts["alpha"] is not None]:
        return f"picture has mode {image.mode}"
    return ""


class Symbols:
    """The checksum of the symbols that the decoder has found so far."""

    crc = 0


@contextmanager
def recording(coder: str) -> Iterator[Symbols]:
    """Inside, the coder of that name runs and its symbols are summed."""
    symbols, original = Symbols(), rans.Decoder.decode

    def spy(decoder: rans.Decoder, indexes: np.ndarray) -> np.ndarray:
        found = original(decoder, indexes)
        symbols.crc = zlib.crc32(found.astype("<i4").data, symbols.crc)
        return found

    compiled = coder == "compiled" and rans.BACKEND == "c"
    backend = rans_compiled if compiled else rans_python
    with patch.object(rans.Decoder, "decode", spy), patch.object(rans, "backend", backend):
        yield symbols


def with_checksum(data: bytes, crc: int) -> bytes:
    """The stream with the checksum that its symbols have, as a hostile writer would make it."""
    fields = Fields.of(data)
    fields.checksum = crc
    return fields.bytes()
