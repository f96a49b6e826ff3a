"""How far pixels differ between decoders that compute in float32 and in bfloat16.

Symbols are the same; what differs is how g_s rounds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np

import stfcodec
from stfcodec.codec import PRECISION
from stfcodec.imageio import read_picture
from stfcodec.metrics import psnr
from stfcodec.models import registry


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-m", "--model", "names", multiple=True, default=("wacnn-lite", "stf-lite"))
def main(pictures: tuple[Path, ...], names: tuple[str, ...]) -> None:
    """Encode PICTURES at every quality, decode each stream in both precisions, and compare."""
    for name in names:
        for quality in range(1, len(registry.LAMBDAS) + 1):
            found = np.array([_compare(path, name, quality) for path in pictures])
            largest, share, loss = found[:, 0].max(), found[:, 1].mean(), found[:, 2].mean()
            click.echo(
                f"{name} quality {quality}: at most {largest:.0f} levels, more than 1 at "
                f"{100 * share:.3f} % of the values, PSNR {loss:+.4f} dB, on {len(found)} pictures"
            )


def _compare(path: Path, name: str, quality: float) -> tuple[float, float, float]:
    """The largest difference in levels, the share of those above 1, and what bfloat16 changes in
    PSNR, in dB."""
    source = read_picture(path).pixels
    data = stfcodec.encode(source, name, quality)
    decoded = []
    for precision in ("float32", "bfloat16"):
        with _computing_in(precision):
            decoded.append(np.asarray(stfcodec.decode(data)).astype(int))
    difference = np.abs(decoded[0] - decoded[1])
    before, after = (psnr(source, d.astype(np.uint8)) for d in decoded)
    return difference.max(), (difference > 1).mean(), after - before


@contextmanager
def _computing_in(precision: str) -> Iterator[None]:
    before = os.environ.get(PRECISION)
    os.environ[PRECISION] = precision
    try:
        yield
    finally:
        if before is None:
            del os.environ[PRECISION]
        else:
            os.environ[PRECISION] = before


if __name__ == "__main__":
    main()
