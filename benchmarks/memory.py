"""Peak memory and time of coding one picture, each direction in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import coders
from benchmarks.coders import Coder


@dataclass(frozen=True)
class Memory:
    """MiB of resident memory at the peak of a whole process, Python and the picture included; and
    seconds of the coding in it, after a small picture for a start."""

    encode: float
    decode: float
    encode_s: float
    decode_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def mosaic(images: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8, filled with the pictures in turn, row by row."""
    canvas = np.empty((height, width, 3), np.uint8)
    top, n = 0, 0
    while top < height:
        left, tallest = 0, min(image.shape[0] for image in images)
        while left < width:
            part = images[n % len(images)][: min(tallest, height - top), : width - left]
            canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
            left, n = left + part.shape[1], n + 1
        top += tallest
    return canvas


def measure(coder: Coder, picture: np.ndarray) -> Memory:
    """Codes the picture at the coder's middle quality."""
    with TemporaryDirectory() as folder:
        source, stream = Path(folder, "picture.npy"), Path(folder, "stream")
        np.save(source, picture)
        encode, encode_s = _process("encode", coder, source, stream)
        decode, decode_s = _process("decode", coder, source, stream)
        return Memory(encode, decode, encode_s, decode_s)


def _process(direction: str, coder: Coder, source: Path, stream: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.memory", direction, coder.name]
    done = subprocess.run(
        [*command, str(source), str(stream)], check=True, stdout=subprocess.PIPE, text=True
    )
    peak, seconds = done.stdout.split()
    return round(int(peak) / 2**20, 1), round(float(seconds), 3)


def _child(direction: str, name: str, source: str, stream: str) -> None:
    coder = coders.by_name(name)
    coder.decode(coder.encode(np.zeros((64, 64, 3), np.uint8), coder.middle))
    if direction == "encode":
        picture = np.load(source)
        start = time.perf_counter()
        data = coder.encode(picture, coder.middle)
        seconds = time.perf_counter() - start
        Path(stream).write_bytes(data)
    else:
        data = Path(stream).read_bytes()
        start = time.perf_counter()
        coder.decode(data)
        seconds = time.perf_counter() - start
    print(high_water(), seconds)


def high_water() -> int:
    """Bytes of resident memory that this process has held at most.

    Not ru_maxrss: on Linux it is inherited from the parent, which may have been larger.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if _IS_MAC else 1024)


_IS_MAC = sys.platform == "darwin"


if __name__ == "__main__":
    _child(*sys.argv[1:])
