"""Time and quality of decoding a part of a picture or a smaller one (`--crop`, `--scale`).

Every stream is decoded as a whole, scaled and cropped in turn; times are medians. PSNR is that of
the smaller picture against the source reduced in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np

from benchmarks.markdown import table
from benchmarks.options import folder_argument, models_option, quality_option
from benchmarks.pictures import mosaic, read_folder
from stfcodec.metrics import psnr

_SIZE = (4000, 6000)
_CROP = 512
_REPEATS = 3


@click.command()
@folder_argument
@models_option
@quality_option
def main(folder: Path, models: tuple[str, ...], quality: float) -> None:
    """Decode a mosaic of 24 megapixels of the pictures in FOLDER."""
    from stfcodec import api

    source = mosaic(read_folder(folder), *_SIZE)
    left, top = ((side - _CROP) // 2 for side in (_SIZE[1], _SIZE[0]))
    rows = []
    for model in models:
        data = api.encode(source, model=model, quality=quality)
        whole_s, whole = _timed(partial(api.decode_picture, data))
        found: dict[str, tuple[float, ...]] = {"all of it": (whole_s,)}
        for divisor in (2, 4, 8, 16):
            seconds, scaled = _timed(partial(api.decode_picture, data, scale=1 / divisor))
            reduced = _means(source, divisor)
            height, width = reduced.shape[:2]
            quality_of = [
                psnr(reduced, pixels[:height, :width])
                for pixels in (scaled.pixels, _means(whole.pixels, divisor))
            ]
            found[f"1/{divisor}"] = (seconds, *quality_of)
        crop = (left, top, _CROP, _CROP)
        seconds, _ = _timed(partial(api.decode_picture, data, crop=crop))
        found[f"{_CROP}² of it"] = (seconds,)
        for name, (seconds, *qualities) in found.items():
            cells = [f"{value:.2f} dB" for value in qualities] or ["", ""]
            rows.append(
                (f"`{model}`", name, f"{seconds:.2f} s", f"{seconds / whole_s:.0%}", *cells)
            )
    head = ("model", "decoded", "time", "of the whole", "PSNR", "PSNR of the whole, then reduced")
    for line in table(head, rows):
        click.echo(line)


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Median seconds of a call, and what it returned last."""
    seconds = []
    for _ in range(_REPEATS):
        start = perf_counter()
        found = run()
        seconds.append(perf_counter() - start)
    return median(seconds), found


def _means(pixels: np.ndarray, divisor: int) -> np.ndarray:
    """Rounded means of whole squares."""
    height, width = (side // divisor for side in pixels.shape[:2])
    squares = pixels[: height * divisor, : width * divisor]
    means = squares.reshape(height, divisor, width, divisor, 3).mean((1, 3))
    return np.rint(means).astype(np.uint8)


if __name__ == "__main__":
    main()
