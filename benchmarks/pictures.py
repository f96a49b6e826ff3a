"""Parts of pictures to measure on."""

from __future__ import annotations

import numpy as np


def middle(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture (H, W, 3), `side` wide and high where it is as large."""
    top, left = (max(0, n - side) // 2 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
