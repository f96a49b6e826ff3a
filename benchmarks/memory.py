"""Peak memory and time of coding one picture, each direction in a process of its own.

`python -m benchmarks.memory` is that process; `measure` starts it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from benchmarks import ROOT, coders
from benchmarks.coders import Coder


@dataclass(frozen=True)
class Memory:
    """Peak resident memory of a whole process in MiB, Python and the picture included; and seconds
    of coding the picture, after a small one has warmed the process up."""

    encode: float
    decode: float
    encode_s: float
    decode_s: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(coder: Coder, picture: np.ndarray) -> Memory:
    """Code a picture (H, W, 3) uint8 at the coder's middle quality.

    Raises subprocess.CalledProcessError if a process fails.
    """
    with TemporaryDirectory() as folder:
        source, stream = Path(folder, "picture.npy"), Path(folder, "stream")
        np.save(source, picture)
        encode, encode_s = _process("encode", coder, source, stream)
        decode, decode_s = _process("decode", coder, source, stream)
        return Memory(encode, decode, encode_s, decode_s)


def _process(direction: str, coder: Coder, picture: Path, stream: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.memory", direction, coder.name]
    done = subprocess.run(
        [*command, str(picture), str(stream)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    peak, seconds = done.stdout.split()
    return round(int(peak) / 2**20, 1), round(float(seconds), 3)


@click.command()
@click.argument("direction", type=click.Choice(["encode", "decode"]))
@click.argument("coder")
@click.argument("picture", type=click.Path(path_type=Path))
@click.argument("stream", type=click.Path(path_type=Path))
def main(direction: str, coder: str, picture: Path, stream: Path) -> None:
    """Encode PICTURE into STREAM, or decode STREAM, with CODER at its middle quality.

    PICTURE is a .npy file of (H, W, 3) uint8; CODER is a name on the benchmark page. Prints the
    process's peak resident memory in bytes and the seconds that coding took.
    """
    try:
        chosen = coders.by_name(coder)
    except KeyError:
        raise click.UsageError(f"no coder {coder!r} here") from None
    chosen.decode(chosen.encode(np.zeros((64, 64, 3), np.uint8), chosen.middle_quality))
    if direction == "encode":
        pixels = np.load(picture)
        start = time.perf_counter()
        data = chosen.encode(pixels, chosen.middle_quality)
        seconds = time.perf_counter() - start
        stream.write_bytes(data)
    else:
        data = stream.read_bytes()
        start = time.perf_counter()
        chosen.decode(data)
        seconds = time.perf_counter() - start
    click.echo(f"{peak_memory()} {seconds}")


def peak_memory() -> int:
    """Peak resident memory of this process in bytes.

    On Linux it is not ru_maxrss: that is inherited from the parent, which may have been larger.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
