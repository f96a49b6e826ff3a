"""What 16 bits a channel gain, on smooth gradients and on photographs reduced to a quarter.

A reduced photograph has more than 8 bits, as each of its values is a mean of sixteen. PSNR is
computed in 16 bits. "Steps" counts how often neighbouring values of a row differ in a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from benchmarks.markdown import table
from benchmarks.options import models_option, pictures_argument
from stfcodec.metrics import psnr

_SIDE = 512
_DIVISOR = 4
_QUALITIES = (3.0, 5.0, 6.0)


@click.command()
@pictures_argument
@models_option
def main(pictures: tuple[Path, ...], models: tuple[str, ...]) -> None:
    """Code PICTURES, reduced, and gradients from their 16 bits and from 8, and compare."""
    from stfcodec.imageio import read_picture

    reduced = [_reduced(read_picture(path).pixels) for path in pictures]
    sources = {"gradients": list(_gradients()), "photographs": reduced}
    rows = [
        (f"`{model}`", f"{quality:g}", name, *_measured(images, model, quality))
        for model in models
        for quality in _QUALITIES
        for name, images in sources.items()
    ]
    head = (
        "model",
        "quality",
        "source",
        "bpp",
        "16 bits in, 16 out",
        "16 in, 8 out",
        "8 in, 8 out",
    )
    for line in table([*head, "steps, 16 out", "8 out"], rows):
        click.echo(line)


def _gradients() -> Iterator[np.ndarray]:
    """Skies: each channel rises by 10 to 30 of 255 levels over the width, and by less downwards."""
    down, across = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    for base, rise in ((40, (10, 14, 20)), (120, (12, 20, 30)), (200, (30, 22, 16))):
        planes = [base + r * across + r / 3 * down**2 for r in rise]
        yield np.rint(np.stack(planes, axis=2) * 257).astype(np.uint16)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> means of squares, uint16, at most `_SIDE` pixels wide and high."""
    height, width = (min(side // _DIVISOR, _SIDE) for side in pixels.shape[:2])
    squares = pixels[: height * _DIVISOR, : width * _DIVISOR].astype(float)
    means = squares.reshape(height, _DIVISOR, width, _DIVISOR, 3).mean((1, 3))
    return np.rint(means * 257).astype(np.uint16)


def _measured(images: list[np.ndarray], model: str, quality: float) -> tuple[str, ...]:
    """Cells of one row: means over the images."""
    found = np.array([_one(image, model, quality) for image in images]).mean(axis=0)
    bpp, *distortions, deep_steps, steps = found
    return (
        f"{bpp:.3f}",
        *(f"{d:.2f} dB" for d in distortions),
        f"{deep_steps:.0f}",
        f"{steps:.0f}",
    )


def _one(image: np.ndarray, model: str, quality: float) -> tuple[float, ...]:
    from stfcodec import api
    from stfcodec.imageio import to_8_bits

    data = api.encode(image, model=model, quality=quality)
    shallow = api.encode(to_8_bits(image), model=model, quality=quality)
    deep, in_8 = (api.decode_picture(data, depth=depth).pixels for depth in (16, 8))
    decoded = (deep, _in_16(in_8), _in_16(api.decode_picture(shallow, depth=8).pixels))
    area = image.shape[0] * image.shape[1]
    return (
        8 * len(data) / area,
        *(psnr(image, pixels) for pixels in decoded),
        _steps(deep),
        _steps(in_8),
    )


def _in_16(pixels: np.ndarray) -> np.ndarray:
    wide: np.ndarray = pixels * np.uint16(257)
    return wide


def _steps(pixels: np.ndarray) -> float:
    """How often neighbouring values of a row differ, per row and channel."""
    changes = np.count_nonzero(np.diff(pixels, axis=1), axis=1)
    return float(changes.mean())


if __name__ == "__main__":
    main()
