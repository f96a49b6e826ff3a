"""A picture with its metadata, as the codec takes and returns it, and as a Pillow image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from stfcodec.imageio import metadata


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture, upright."""

    pixels: np.ndarray
    """uint8 (H, W, 3), RGB."""
    gray: bool = False
    """The file was grey, and the three planes are equal."""
    alpha: np.ndarray | None = None
    """uint8 (H, W), 0 is transparent."""
    icc: bytes | None = None
    """ICC profile; None stands for sRGB."""
    exif: bytes | None = None
    """EXIF block. It begins with its TIFF header and has no orientation."""
    xmp: bytes | None = None
    """XMP packet."""
    notes: tuple[str, ...] = ()
    """One line for each thing that reading changed or left out."""


def to_image(picture: Picture) -> Image.Image:
    """A Pillow image of mode L, LA, RGB or RGBA, with the metadata in `info` under Pillow's names.

    Pillow's `save` writes the ICC profile from there into PNG and TIFF only. The rest has to be
    passed to it (`image.save(path, exif=image.info["exif"])`), as `write_picture` does. Grey is the
    rounded mean of the three planes, which decoding does not leave exactly equal.
    """
    pixels = picture.pixels
    if picture.gray:
        pixels = ((pixels.sum(axis=2, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    image = Image.fromarray(pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    image.info.update(metadata.info_blocks(picture.icc, picture.exif, picture.xmp))
    return image
