"""Crops of a photograph, as pixels and as tensors; and where larger test material lies."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PHOTOGRAPH = Path(__file__).resolve().parents[1] / "docs" / "images" / "kodim23.png"

MATERIAL = Path(
    os.environ.get("STFCODEC_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared"
)
"""Folder of what is too large for the repository. Tests that need what is not there are skipped."""


def crop(size: tuple[int, int]) -> np.ndarray:
    """The top left (height, width) of a photograph, repeated where it is smaller."""
    pixels = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    repeats = [-(-n // m) for n, m in zip(size, pixels.shape, strict=False)]
    return np.tile(pixels, (*repeats, 1))[: size[0], : size[1]]


def photographs(*sizes: tuple[int, int]) -> list[Tensor]:
    """A (1, 3, height, width) crop in 0…1 for each size."""
    return [torch.from_numpy(crop(s)).permute(2, 0, 1)[None].float() / 255 for s in sizes]


def photo(size: int) -> np.ndarray:
    """A square of the photograph, away from its corner."""
    return np.array(Image.open(PHOTOGRAPH).convert("RGB"))[100 : 100 + size, 200 : 200 + size]
