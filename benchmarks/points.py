"""Points of rate-distortion curves, with coding times: real bytes, decoded pixels, wall time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.coders import Coder
from stfcodec.metrics import Curve, ms_ssim, psnr


@dataclass(frozen=True)
class Sample:
    """One picture, encoded and decoded once. PSNR is in dB, times are seconds per megapixel."""

    file: bytes = field(repr=False)
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode: float
    decode: float


Samples = dict[tuple[str, float], list[Sample]]
"""Samples by the coder's name and the quality, each list in the order of the pictures."""


@dataclass(frozen=True)
class Point:
    """One coder at one quality: means of rate and distortion, medians of times."""

    quality: float
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_s_per_mp: float
    decode_s_per_mp: float

    @classmethod
    def of(cls, quality: float, samples: Sequence[Sample]) -> Point:
        """MS-SSIM is None if any sample lacks it."""
        similarities = [s.ms_ssim for s in samples if s.ms_ssim is not None]
        complete = len(similarities) == len(samples)
        return cls(
            quality=quality,
            bpp=round(mean(s.bpp for s in samples), 4),
            psnr=round(mean(s.psnr for s in samples), 3),
            ms_ssim=round(mean(similarities), 5) if complete else None,
            encode_s_per_mp=round(median(s.encode for s in samples), 4),
            decode_s_per_mp=round(median(s.decode for s in samples), 4),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    coders: Sequence[Coder],
    images: Sequence[np.ndarray],
    with_ms_ssim: bool = True,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, list[Point]]:
    """Points of every coder at each of its qualities, by the coder's name; see `take_samples`."""
    return means(coders, take_samples(coders, images, with_ms_ssim, advance))


def take_samples(
    coders: Sequence[Coder],
    images: Sequence[np.ndarray],
    with_ms_ssim: bool = True,
    advance: Callable[[], object] = lambda: None,
) -> Samples:
    """Code every picture with every coder at each of its qualities.

    Coders take turns picture by picture, so that all of them see the same state of the machine.
    images: (H, W, 3) uint8. `advance` is called after each picture at each quality.
    """
    samples: Samples = {}
    for coder in coders:
        sample(coder, coder.middle_quality, images[0], with_ms_ssim=False)  # warms up
    for image in images:
        for coder in coders:
            for quality in coder.qualities:
                found = sample(coder, quality, image, with_ms_ssim)
                samples.setdefault((coder.name, quality), []).append(found)
                advance()
    return samples


def means(coders: Sequence[Coder], samples: Samples) -> dict[str, list[Point]]:
    """Points of every coder at each of its qualities, by the coder's name."""
    return {c.name: [Point.of(q, samples[c.name, q]) for q in c.qualities] for c in coders}


def sample(coder: Coder, quality: float, image: np.ndarray, with_ms_ssim: bool = True) -> Sample:
    """Encode and decode one picture. Raises ValueError if another size comes back."""
    megapixels = image.shape[0] * image.shape[1] / 1e6
    start = time.perf_counter()
    data = coder.encode(image, quality)
    encoded = time.perf_counter()
    decoded = coder.decode(data)
    done = time.perf_counter()
    if decoded.shape != image.shape:
        raise ValueError(f"{coder.name} made {decoded.shape} of {image.shape}")
    return Sample(
        file=data,
        bpp=8 * len(data) / megapixels / 1e6,
        psnr=psnr(image, decoded),
        ms_ssim=ms_ssim(image, decoded) if with_ms_ssim else None,
        encode=(encoded - start) / megapixels,
        decode=(done - encoded) / megapixels,
    )


def psnr_curve(points: Sequence[Point]) -> Curve:
    """(bpp, PSNR) pairs for `metrics.bd_rate`."""
    return [(p.bpp, p.psnr) for p in points]
