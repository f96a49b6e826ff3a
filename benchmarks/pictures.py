"""Pictures to measure on: a folder of them, their middle crop, and a mosaic of any size.

Pictures are arrays (H, W, 3) of uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from stfcodec.errors import ImageError
from stfcodec.formats import PICTURE_SUFFIXES
from stfcodec.imageio import read_picture, to_8_bits

NOTE = "note.txt"
"""Text beside the pictures of a folder that stands on the page of its measurements."""


def read_folder(
    folder: Path, limit: int | None = None, crop: int | None = None, min_side: int = 1
) -> list[np.ndarray]:
    """The first `limit` pictures of a folder by name, or their middle crops.

    Raises click.UsageError if the folder holds no pictures, if one cannot be read, or if a side of
    what is measured has fewer than `min_side` pixels.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)[:limit]
    if not paths:
        raise click.UsageError(f"no pictures in {folder}")
    images = []
    for path in paths:
        try:
            pixels = to_8_bits(read_picture(path).pixels)
        except ImageError as error:
            raise click.UsageError(f"{path}: {error}; leave it out") from error
        image = pixels if crop is None else middle_crop(pixels, crop)
        height, width = image.shape[:2]
        if min(height, width) < min_side:
            needed = f"each side needs {min_side} pixels"
            raise click.UsageError(f"{path}: {width}x{height} is too small to measure; {needed}")
        images.append(image)
    return images


def read_note(folder: Path) -> str:
    """The text that NOTE holds, as one line; empty without the file."""
    path = folder / NOTE
    return " ".join(path.read_text(encoding="utf-8").split()) if path.exists() else ""


def middle_crop(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle of a picture, at most `side` pixels wide and high."""
    top, left = (max(0, n - side) // 2 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def mosaic(images: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """A picture (height, width, 3), filled with the given ones in turn, row by row."""
    canvas = np.empty((height, width, 3), np.uint8)
    top, n = 0, 0
    while top < height:
        left, tallest = 0, min(image.shape[0] for image in images)
        while left < width:
            part = images[n % len(images)][: min(tallest, height - top), : width - left]
            canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
            left, n = left + part.shape[1], n + 1
        top += tallest
    return canvas
