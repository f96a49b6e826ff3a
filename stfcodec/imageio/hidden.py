"""Fills pixels that nobody can see from those around them, before a picture is coded.

Else colours under alpha 0 would cost bytes, and the codec would mix them into the visible edge.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stfcodec.imageio.picture import Picture


def without_hidden_colours(picture: Picture) -> Picture:
    """The picture as it is to be coded: nothing in it depends on colours under alpha 0.

    A plane of alpha that is 255 everywhere is left out. Pixels of alpha 1 to 255 stay as they are.
    """
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is None or alpha.min() > 0:
        return replace(picture, alpha=None) if is_opaque(picture) else picture
    hidden, pixels = alpha == 0, pixels.copy()
    for channel in range(1 if picture.gray else 3):
        pixels[..., channel][hidden] = _filled(pixels[..., channel], alpha)[hidden]
    if picture.gray:
        pixels[:] = pixels[..., :1]
    return replace(picture, pixels=pixels)


def is_opaque(picture: Picture) -> bool:
    """Whether nothing shines through: there is no alpha plane, or it is 255 everywhere."""
    return picture.alpha is None or bool((picture.alpha == 255).all())


def _filled(plane: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A plane (H, W) without gaps where alpha is 0; black if it is 0 everywhere."""
    if not alpha.any():
        return np.zeros_like(plane)
    weights = alpha.astype(np.float32)
    coarse = _without_gaps(*(_summed_by_fours(p) for p in (plane * weights, weights)))
    height, width = plane.shape
    filled: np.ndarray = np.rint(_doubled(coarse)[:height, :width]).astype(plane.dtype)
    return filled


def _without_gaps(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means, float32 (H, W); gaps, which have no weight, come from half the resolution.

    sums: of values times their weights. There is at least one weight. Only elementwise arithmetic
    is used, so the result is the same on every machine.
    """
    has_value = weights > 0
    means: np.ndarray = np.divide(sums, weights, out=np.zeros_like(sums), where=has_value)
    if has_value.all():
        return means
    height, width = sums.shape
    coarse = _without_gaps(_summed_by_fours(sums), _summed_by_fours(weights))
    return np.where(has_value, means, _doubled(coarse)[:height, :width])


def _summed_by_fours(plane: np.ndarray) -> np.ndarray:
    """Sums of squares of 2x2: (H, W) to (⌈H/2⌉, ⌈W/2⌉)."""
    height, width = plane.shape
    if height % 2 or width % 2:
        plane = np.pad(plane, ((0, height % 2), (0, width % 2)))
    rows = plane[::2] + plane[1::2]
    sums: np.ndarray = rows[:, ::2] + rows[:, 1::2]
    return sums


def _doubled(plane: np.ndarray) -> np.ndarray:
    """Twice the resolution, linearly interpolated between the centres of the given pixels."""
    height, width = plane.shape
    rows = np.empty((2 * height, width), plane.dtype)
    _interpolate(plane, rows[::2], rows[1::2])
    doubled = np.empty((2 * height, 2 * width), plane.dtype)
    _interpolate(rows.T, doubled.T[::2], doubled.T[1::2])
    return doubled


def _interpolate(values: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    """Fill in what lies a quarter before and behind each of the values, along the first axis."""
    for result in (before, after):
        np.multiply(values, np.float32(0.75), out=result)
    quarters = values * np.float32(0.25)
    before[1:] += quarters[:-1]
    before[:1] += quarters[:1]
    after[:-1] += quarters[1:]
    after[-1:] += quarters[-1:]
