"""Generation loss: what coding again and again costs, ours beside other codecs at about our rate.

Each time, the 8-bit pixels that the time before decoded are encoded and decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log
from statistics import mean
from typing import NamedTuple

import numpy as np

from benchmarks.coders import AVIF, JPEG_444, JPEG_XL, WEBP, Coder
from benchmarks.points import Point
from stfcodec.metrics import psnr
from stfcodec.models.registry import DEFAULT_MODEL

TIMES = 10
"""How often a picture is coded."""

QUALITY = 4.0
"""Quality of our models; the other codecs take about the bits of the default model at it."""

_OTHERS = tuple(coder.name for coder in (JPEG_444, WEBP, AVIF, JPEG_XL))


class GenerationLoss(NamedTuple):
    """One coder at one quality: bpp of the first file, and PSNR in dB after each coding.

    PSNR compares with the picture that was coded first. Both are means over the pictures.
    """

    name: str
    quality: float
    bpp: float
    psnr: list[float]


def choose(
    coders: Sequence[Coder], points: Mapping[str, Sequence[Point]]
) -> list[tuple[Coder, float]]:
    """The coders to compare, each with its quality."""
    ours = [(coder, QUALITY) for coder in coders if coder.ours and not coder.effort]
    (bpp,) = (p.bpp for p in points[DEFAULT_MODEL] if p.quality == QUALITY)
    others = [(c, quality_for(bpp, points[c.name])) for c in coders if c.name in _OTHERS]
    return ours + others


def quality_for(bpp: float, points: Sequence[Point]) -> int:
    """The whole quality at which a coder takes about `bpp`, interpolated between its points."""
    rates, qualities = zip(*sorted((log(p.bpp), p.quality) for p in points), strict=True)
    return round(float(np.interp(log(bpp), rates, qualities)))


def measure(
    coder: Coder,
    quality: float,
    images: Sequence[np.ndarray],
    advance: Callable[[], object] = lambda: None,
) -> GenerationLoss:
    """Code every picture TIMES times. images: (H, W, 3) uint8. `advance` is called each time."""
    rates: list[float] = []
    distortions: list[list[float]] = []
    for image in images:
        pixels, found = image, []
        for time in range(TIMES):
            file = coder.encode(pixels, quality)
            pixels = coder.decode(file)
            found.append(psnr(image, pixels))
            if time == 0:
                rates.append(8 * len(file) / (image.shape[0] * image.shape[1]))
            advance()
        distortions.append(found)
    after = [round(mean(each), 3) for each in zip(*distortions, strict=True)]
    return GenerationLoss(coder.name, quality, round(mean(rates), 4), after)
