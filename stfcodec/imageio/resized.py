"""A part or a reduced copy of a picture: its alpha plane, and metadata that stay true."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
from PIL import Image

from stfcodec.imageio.metadata import exif, xmp
from stfcodec.imageio.metadata.directories import DirectoryError
from stfcodec.imageio.metadata.xml_tree import XmlError
from stfcodec.imageio.picture import Picture


def reduced(plane: np.ndarray, divisor: int) -> np.ndarray:
    """Means of divisor × divisor values, uint8 (H, W) -> (⌈H/divisor⌉, ⌈W/divisor⌉)."""
    return plane if divisor == 1 else np.array(Image.fromarray(plane).reduce(divisor))


def with_true_size(picture: Picture) -> Picture:
    """The picture, whose metadata state its own size and have no thumbnail of a larger one.

    A block that cannot be read stays as it is.
    """
    height, width = picture.pixels.shape[:2]
    block, packet = picture.exif, picture.xmp
    with suppress(DirectoryError):
        block = exif.upright(block, (width, height), turned=True) if block else None
    with suppress(XmlError):
        packet = xmp.upright(packet, (width, height)) if packet else None
    return replace(picture, exif=block, xmp=packet)
