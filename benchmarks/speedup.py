"""Speed-up of paper-size models over the reference implementation, measured in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

import stfcodec
from benchmarks.coders import PRECISIONS, computing_in
from benchmarks.reference_networks import ReferenceCodec
from benchmarks.untrained_models import stand_in
from stfcodec.allocator import keep_freed_memory
from stfcodec.models import registry, weights
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.registry import ModelInfo

MODELS = tuple(info for info in registry.MODELS if not info.variable_rate)
"""The models of paper size."""


class Seconds(NamedTuple):
    """Median seconds per megapixel."""

    encode: float
    decode: float


class Speedup(NamedTuple):
    """One paper-size model: times of the reference implementation, and ours in each precision."""

    bpp: float
    reference: Seconds
    ours: dict[str, Seconds]


def measure(
    info: ModelInfo, picture: np.ndarray, rounds: int, advance: Callable[[], object] = lambda: None
) -> Speedup:
    """Code a picture (H, W, 3) uint8 with all implementations in turn, after one round of warm-up.

    Its sides are multiples of 64. `advance` is called after each implementation of each round.
    """
    keep_freed_memory()  # as the commands do
    megapixels = picture.shape[0] * picture.shape[1] / 1e6
    with TemporaryDirectory() as folder:
        path = Path(folder, "stand-in.safetensors")
        weights.save(stand_in(info, picture), path)

        def encode(picture: np.ndarray) -> bytes:
            return stfcodec.encode(picture, model=info.name, quality=1, device="cpu", weights=path)

        def decode(data: bytes) -> np.ndarray:
            return np.asarray(stfcodec.decode(data, device="cpu", weights=path))

        times: dict[str, list[Seconds]] = {}
        # The reference has a process of its own: `keep_freed_memory` holds for a whole process.
        with get_context("spawn").Pool(1, _load_reference, (info, path)) as reference_process:
            for round_ in range(rounds + 1):
                taken = {"reference": reference_process.apply(_time_reference, (picture,))}
                for label, precision in PRECISIONS.items():
                    with computing_in(precision):
                        taken[label] = _time(encode, decode, picture)
                for name, seconds in taken.items():
                    if round_:
                        times.setdefault(name, []).append(seconds)
                    advance()
        bits = 8 * len(encode(picture))
    medians = {
        name: Seconds(*(round(median(t) / megapixels, 3) for t in zip(*found, strict=True)))
        for name, found in times.items()
    }
    bpp = round(bits / megapixels / 1e6, 3)
    return Speedup(bpp, medians.pop("reference"), medians)


_reference: ReferenceCodec
"""Set in the process of the reference implementation by `_load_reference`."""


def _load_reference(info: ModelInfo, path: Path) -> None:
    global _reference
    model = weights.load(info, path)
    assert isinstance(model, ChannelwiseModel)
    _reference = ReferenceCodec(model, info.widths)


def _time_reference(picture: np.ndarray) -> Seconds:
    return _time(_reference.encode, _reference.decode, picture)


def _time(
    encode: Callable[[np.ndarray], Any], decode: Callable[[Any], object], picture: np.ndarray
) -> Seconds:
    start = time.perf_counter()
    data = encode(picture)
    coded = time.perf_counter()
    decode(data)
    return Seconds(coded - start, time.perf_counter() - coded)
