"""Difference between pictures decoded in float32 and in bfloat16 from the same streams.

Both decode the same symbols; the rounding of g_s differs.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

import stfcodec
from benchmarks.coders import computing_in
from benchmarks.options import models_option, pictures_argument
from stfcodec.metrics import psnr
from stfcodec.models.registry import WHOLE_QUALITIES


@click.command()
@pictures_argument
@models_option
def main(pictures: tuple[Path, ...], models: tuple[str, ...]) -> None:
    """Encode PICTURES at every quality and decode each stream in both precisions."""
    for model in models:
        for quality in WHOLE_QUALITIES:
            found = np.array([_compare(path, model, quality) for path in pictures])
            largest, share, loss = found[:, 0].max(), found[:, 1].mean(), found[:, 2].mean()
            click.echo(
                f"{model} quality {quality}: at most {largest:.0f} levels, more than 1 at "
                f"{100 * share:.3f} % of the values, PSNR {loss:+.4f} dB, on {len(found)} pictures"
            )


def _compare(path: Path, model: str, quality: float) -> tuple[float, float, float]:
    """Largest difference in grey levels, share of values that differ by more than one, and PSNR of
    bfloat16 minus that of float32 in dB."""
    from stfcodec.imageio import read_picture

    source = read_picture(path).pixels
    data = stfcodec.encode(source, model=model, quality=quality)
    decoded = []
    for precision in ("float32", "bfloat16"):
        with computing_in(precision):
            decoded.append(np.asarray(stfcodec.decode(data)).astype(int))
    difference = np.abs(decoded[0] - decoded[1])
    in_float32, in_bfloat16 = (psnr(source, d.astype(np.uint8)) for d in decoded)
    return difference.max(), (difference > 1).mean(), in_bfloat16 - in_float32


if __name__ == "__main__":
    main()
