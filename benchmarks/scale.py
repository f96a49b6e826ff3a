"""Pictures a second of whole `stfcodec encode` commands over a folder: plain, with a manifest, on
Ray."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click

from benchmarks.kills import cut
from benchmarks.markdown import signed, table
from benchmarks.options import folder_argument, rounds_option
from benchmarks.pictures import read_folder

WAYS = {"plain": (), "--manifest": ("--manifest",), "--manifest --ray": ("--manifest", "--ray")}

_WARM = 0.2
"""The share of the pictures that come before the rate is measured: workers start one by one."""


class Speed(NamedTuple):
    """start: seconds until the first picture is done. rate: pictures a second after that. total:
    seconds of the whole command."""

    start: float
    rate: float
    total: float


@click.command()
@folder_argument
@click.option("--pictures", type=int, default=200, show_default=True, help="Cut from FOLDER's.")
@click.option("--side", type=int, default=512, show_default=True, help="Of each, in pixels.")
@click.option("--workers", type=int, multiple=True, default=(1, 2), show_default=True)
@rounds_option(3)
def main(folder: Path, pictures: int, side: int, workers: tuple[int, ...], rounds: int) -> None:
    """Encode squares cut from the pictures in FOLDER in each way, and print a table.

    The ways take turns, so that what else the machine does harms all of them.
    """
    found: dict[tuple[int, str], list[Speed]] = {}
    with TemporaryDirectory() as name:
        source = Path(name, "source")
        cut(read_folder(folder, limit=pictures), source, pictures, side)
        for number in range(rounds):
            for count in workers:
                for way, options in WAYS.items():
                    output = Path(name, f"{number} {count} {way}")
                    words = ["--workers", str(count), *options]
                    found.setdefault((count, way), []).append(_speed(source, output, words))
    megapixels = side * side / 1e6
    rows = []
    for (count, way), speeds in found.items():
        start, rate, total = (median(values) for values in zip(*speeds, strict=True))
        plain = median(speed.rate for speed in found[count, "plain"])
        gain = "" if way == "plain" else f"{signed(100 * (rate / plain - 1), 1)} %"
        numbers = [f"{rate:.2f}", f"{rate * megapixels:.2f}", gain, f"{start:.1f}", f"{total:.1f}"]
        rows.append([f"{count}", way, *numbers])
    head = ["workers", "options", "pictures/s", "MP/s", "against plain"]
    head += ["seconds to the first", "seconds in all"]
    click.echo("\n".join(table(head, rows)))


def _speed(source: Path, output: Path, options: Sequence[str]) -> Speed:
    """Of one command. Raises RuntimeError where it fails."""
    words = ["encode", str(source), "-r", "-o", str(output), "--json", "--quiet", *options]
    begin = time.monotonic()
    command = [sys.executable, "-m", "stfcodec", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        times = [time.monotonic() - begin for _ in process.stdout]
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} failed")
    warm = int(_WARM * len(times))
    rate = (len(times) - 1 - warm) / (times[-1] - times[warm])
    return Speed(times[0], rate, time.monotonic() - begin)


if __name__ == "__main__":
    main()
