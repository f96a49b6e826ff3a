"""Rate, distortion and coding time of coders on pictures, from real bytes and saved pixels."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.coders import Coder
from stfcodec.metrics import ms_ssim, psnr


@dataclass(frozen=True)
class Sample:
    """One picture coded once. Times are seconds a megapixel, from array to array."""

    bpp: float
    psnr: float
    ms_ssim: float | None
    encode: float
    decode: float


@dataclass(frozen=True)
class Point:
    """A coder at one quality: means of rate and distortion, medians of times."""

    quality: float
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_s_per_mp: float
    decode_s_per_mp: float

    @classmethod
    def of(cls, quality: float, samples: Sequence[Sample]) -> Point:
        similar = [s.ms_ssim for s in samples if s.ms_ssim is not None]
        return cls(
            quality=quality,
            bpp=round(mean(s.bpp for s in samples), 4),
            psnr=round(mean(s.psnr for s in samples), 3),
            ms_ssim=round(mean(similar), 5) if len(similar) == len(samples) else None,
            encode_s_per_mp=round(median(s.encode for s in samples), 4),
            decode_s_per_mp=round(median(s.decode for s in samples), 4),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    coders: Sequence[Coder],
    images: Sequence[np.ndarray],
    similarity: bool = True,
    step: Callable[[], object] = lambda: None,
) -> dict[str, list[Point]]:
    """Points of every coder at each of its qualities, by the coder's name.

    Coders take turns picture by picture, so that all of them see the same machine. images:
    (H, W, 3) uint8. similarity: whether MS-SSIM is computed too. `step` is called after each
    picture at each quality.
    """
    samples: dict[tuple[str, float], list[Sample]] = {}
    for coder in coders:
        code(coder, coder.middle, images[0], similarity=False)  # warms up
    for image in images:
        for coder in coders:
            for quality in coder.qualities:
                sample = code(coder, quality, image, similarity)
                samples.setdefault((coder.name, quality), []).append(sample)
                step()
    return {c.name: [Point.of(q, samples[c.name, q]) for q in c.qualities] for c in coders}


def code(coder: Coder, quality: float, image: np.ndarray, similarity: bool = True) -> Sample:
    """Codes one picture there and back. Raises ValueError where another size comes back."""
    megapixels = image.shape[0] * image.shape[1] / 1e6
    start = time.perf_counter()
    data = coder.encode(image, quality)
    coded = time.perf_counter()
    decoded = coder.decode(data)
    done = time.perf_counter()
    if decoded.shape != image.shape:
        raise ValueError(f"{coder.name} made {decoded.shape} of {image.shape}")
    return Sample(
        bpp=8 * len(data) / megapixels / 1e6,
        psnr=psnr(image, decoded),
        ms_ssim=ms_ssim(image, decoded) if similarity else None,
        encode=(coded - start) / megapixels,
        decode=(done - coded) / megapixels,
    )


def curve(points: Sequence[Point]) -> list[tuple[float, float]]:
    """(bpp, PSNR) pairs for `metrics.bd_rate`."""
    return [(p.bpp, p.psnr) for p in points]
