"""Mean SSIMULACRA2 of coded pictures, by the package `ssimulacra2`, which is optional."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from itertools import repeat
from statistics import mean

import numpy as np

from benchmarks.coders import Coder
from benchmarks.points import Samples
from stfcodec.machine import cores
from stfcodec.metrics import ssimulacra2

PACKAGE = "ssimulacra2"


def package_version() -> str | None:
    """The version of the package, None if it is not installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


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
                    keys, processes.map(ssimulacra2, repeat(image), decoded), strict=True
                ):
                    scores[key].append(found)
                    advance()
    return {key: _mean(found) for key, found in scores.items()}


def _mean(scores: Sequence[float | None]) -> float | None:
    found = [s for s in scores if s is not None]
    return round(mean(found), 3) if len(found) == len(scores) else None
