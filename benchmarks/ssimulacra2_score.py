"""SSIMULACRA2 of coded pictures, by the package `ssimulacra2`, which is optional and imported late.

SSIMULACRA2 (Sneyers, 2022; version 2.1) predicts how people rate a picture: 100 is equal to the
source, 90 hardly told from it, 70 high quality, 50 medium, 30 low; there is no lower limit.
"""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from itertools import repeat
from statistics import mean

import numpy as np
from PIL import Image

from benchmarks.coders import Coder
from benchmarks.machine import cores
from benchmarks.points import Samples

PACKAGE = "ssimulacra2"

_SMALLEST = 7 * 2**5 + 1
"""A shorter side has fewer than 8 pixels after five halvings; the package then omits a scale."""


def package_version() -> str | None:
    """The version of the package, None if it is not installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


def score(source: np.ndarray, decoded: np.ndarray) -> float | None:
    """SSIMULACRA2 of two sRGB pictures (H, W, 3) uint8; at most 100.

    None if a side has fewer than 225 pixels, which is too small for the sixth scale. Raises
    ModuleNotFoundError without the package.
    """
    if min(source.shape[:2]) < _SMALLEST:
        return None
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(_ppm(source), _ppm(decoded)))


def mean_scores(
    coders: Sequence[Coder],
    images: Sequence[np.ndarray],
    samples: Samples,
    advance: Callable[[], object] = lambda: None,
) -> dict[tuple[str, float], float | None]:
    """Mean score of each coder at each of its qualities, from the files of `samples`.

    None if a picture is too small. A score takes a second for a megapixel, so one process for each
    core computes them. `advance` is called after each score.
    """
    scores: dict[tuple[str, float], list[float | None]] = {key: [] for key in samples}
    # A fork would copy the locks of torch's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores(), mp_context=context) as processes:
        for i, image in enumerate(images):
            for coder in coders:
                keys = [(coder.name, quality) for quality in coder.qualities]
                decoded = [coder.decode(samples[key][i].file) for key in keys]
                for key, found in zip(
                    keys, processes.map(score, repeat(image), decoded), strict=True
                ):
                    scores[key].append(found)
                    advance()
    return {key: _mean(found) for key, found in scores.items()}


def _mean(scores: Sequence[float | None]) -> float | None:
    found = [s for s in scores if s is not None]
    return round(mean(found), 3) if len(found) == len(scores) else None


def _ppm(pixels: np.ndarray) -> io.BytesIO:
    """A picture as the file that the package asks for, uncompressed."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PPM")
    return file
