"""A checkpoint's networks, with their integer form, as a weights file; and what integers cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from stfcodec.models import locate, registry, weights
from stfcodec.models.coding_tables import fit_for_coding
from stfcodec.models.host import plain_torch
from stfcodec.models.integer_cost import Point, curve
from stfcodec.models.registry import ModelInfo
from stfcodec.models.state_dicts import StateFile


class Conversion(NamedTuple):
    """Weights that code, and what was measured with them, one point for each quality."""

    data: bytes
    """The weights file."""
    fingerprint: bytes
    digest: str
    """Of all tensors, see `weights.digest`."""
    qualities: tuple[float, ...]
    floating: list[Point]
    """Of the float networks in float32, as in the checkpoint; bits by the published tables. Empty
    for a file that has an integer form already."""
    integer: list[Point]
    """Of the weights file."""


@plain_torch()
def convert(
    file: StateFile,
    path: Path,
    info: ModelInfo,
    quality: float | None,
    batches: Sequence[Tensor],
    pictures: Sequence[np.ndarray],
) -> Conversion:
    """Give a checkpoint the form in which it codes.

    A weights file that has an integer form keeps it. quality: None for a model of variable rate.
    batches: crops (B, 3, H, W) in 0…1, on which value ranges and tables of y are measured. On the
    same crops every machine finds the same integers for a published network. pictures: uint8
    (H, W, 3), to measure on. Sides are multiples of 64. Raises WeightsError where the checkpoint is
    damaged, or cannot be made exact.
    """
    qualities = tuple(registry.WHOLE_QUALITIES) if quality is None else (quality,)
    source = f"{path.name} sha256:{file.sha256}"
    stated = locate.describe_file(path)
    model = weights.load_state(info, dict(file.tensors), path)
    if model.integer is not None and stated is not None:
        weights.check_stated_sums(stated, file.tensors)
        source = stated.source or source
    metadata = locate.describe(info, 1 if quality is None else quality, source)
    floating: list[Point] = []
    if model.integer is not None:
        tensors = file.tensors
    else:
        floating = curve(model, None, pictures, qualities)
        fit_for_coding(model, batches)
        tensors = weights.stored_tensors(model)
    integer = curve(model, model.integer, pictures, qualities)
    return Conversion(
        data=weights.pack(tensors, metadata),
        fingerprint=model.fingerprint,
        digest=weights.digest(tensors),
        qualities=qualities,
        floating=floating,
        integer=integer,
    )
