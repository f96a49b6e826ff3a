"""Wall time of whole `stfcodec` processes: start-up, and folders against single files."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

IMPORT_TORCH = 'python -c "import torch"'
ENCODE = "stfcodec encode a.png"


class FolderTimes(NamedTuple):
    """Seconds for the same pictures in one direction: one process for all, or one for each."""

    pictures: int
    megapixels: float
    together: float
    one_by_one: float


def start_up_times(rounds: int, advance: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Median wall seconds of whole processes, by command line; the picture has 64×64 pixels."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        ramp = np.arange(64, dtype=np.uint8) * 4
        picture = np.stack([*np.meshgrid(ramp, ramp), np.full((64, 64), 128, np.uint8)], 2)
        Image.fromarray(picture).save(folder / "a.png")
        encode = ["encode", str(folder / "a.png"), "-o", str(folder / "a.stf"), "-f"]
        commands = {
            IMPORT_TORCH: [sys.executable, "-c", "import torch"],
            "stfcodec --version": _stfcodec("--version"),
            ENCODE: _stfcodec(*encode),
            "stfcodec info a.stf": _stfcodec("info", str(folder / "a.stf")),
            "stfcodec decode a.stf": _stfcodec(
                "decode", str(folder / "a.stf"), "-o", str(folder / "b.png"), "-f"
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(_seconds(command))
                advance()
    # The first round reads from a cold disk cache: it counts only if it is the only one.
    return {name: round(median(t[1:] or t), 3) for name, t in times.items()}


def folder_times(
    images: Sequence[np.ndarray], advance: Callable[[], object] = lambda: None
) -> dict[str, FolderTimes]:
    """Times of `stfcodec encode` and `decode` at the default model and quality, by command."""
    megapixels = sum(i.shape[0] * i.shape[1] for i in images) / 1e6
    with TemporaryDirectory() as name:
        root = Path(name)
        sources, streams, decoded = (root / n for n in ("sources", "streams", "decoded"))
        for path in (sources, streams, decoded):
            path.mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(sources / f"{i:02}.png")
        found = {}
        for command, source, target, suffix in (
            ("encode", sources, streams, ".stf"),
            ("decode", streams, decoded, ".png"),
        ):
            together = _seconds(_stfcodec(command, str(source), "-r", "-o", str(target)))
            advance()
            one_by_one = 0.0
            for path in sorted(source.iterdir()):
                again = root / f"again{suffix}"
                one_by_one += _seconds(_stfcodec(command, str(path), "-o", str(again), "-f"))
                advance()
            found[command] = FolderTimes(
                len(images), round(megapixels, 2), round(together, 2), round(one_by_one, 2)
            )
    return found


def _stfcodec(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stfcodec", *arguments]


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[2:4])} failed: {done.stderr.strip()}")
    return seconds
