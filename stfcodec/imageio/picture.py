"""A picture with its metadata, as the codec takes and returns it, and as a Pillow image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stfcodec.imageio.metadata import exif
from stfcodec.imageio.metadata.directories import DirectoryError
from stfcodec.imageio.metadata.resolution import INCH, NO_UNIT


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture, upright: what `decode_picture` returns, and what `encode` takes.

    A picture of your own needs `pixels` alone: `Picture(pixels)`.
    """

    pixels: np.ndarray
    """uint8 or uint16 (H, W, 3), RGB, of values from 0 to 255 or 65535."""
    gray: bool = False
    """Whether the file was grey. The three planes of such a picture are equal before coding."""
    alpha: np.ndarray | None = None
    """uint8 (H, W), from 0, transparent, to 255, opaque; None for an opaque picture."""
    icc: bytes | None = None
    """ICC profile; None stands for sRGB."""
    exif: bytes | None = None
    """EXIF block. It begins with its TIFF header and has no orientation. Its resolution is the
    picture's."""
    xmp: bytes | None = None
    """XMP packet, UTF-8."""
    notes: tuple[str, ...] = ()
    """One line for each thing that reading a file changed or left out."""
    iptc: bytes | None = None
    """IPTC record."""


def to_image(picture: Picture) -> Image.Image:
    """A Pillow image of 8 bits: mode L, LA, RGB or RGBA, metadata in `info` under Pillow's names.

    Pillow's `save` writes the ICC profile from there into PNG and TIFF only. The rest has to be
    passed to it (`image.save(path, exif=image.info["exif"])`), as `write_picture` does. Grey is the
    rounded mean of the three planes, which decoding does not leave exactly equal.
    """
    planes = to_8_bits(picture.pixels)
    image = Image.fromarray(grey(planes) if picture.gray else planes)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    image.info.update(pillow_info(picture.icc, picture.exif, picture.xmp))
    return image


def grey(pixels: np.ndarray) -> np.ndarray:
    """The rounded mean of three planes, (H, W, 3) -> (H, W)."""
    mean: np.ndarray = ((pixels.sum(axis=2, dtype=np.uint32) + 1) // 3).astype(pixels.dtype)
    return mean


def to_8_bits(planes: np.ndarray) -> np.ndarray:
    """uint16 values as uint8, rounded; uint8 ones as they are."""
    if planes.dtype == np.uint8:
        return planes
    rounded: np.ndarray = ((planes.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return rounded


def pillow_info(icc: bytes | None, block: bytes | None, xmp: bytes | None) -> dict[str, Any]:
    """Metadata as Pillow has them in `Image.info`: icc_profile, exif, xmp and dpi, if present.

    block: EXIF, from its TIFF header on.
    """
    found = {
        "icc_profile": icc,
        "exif": block and exif.PREFIX + block,
        "xmp": xmp,
        "dpi": _dots_per_inch(block) if block else None,
    }
    return {name: value for name, value in found.items() if value}


def _dots_per_inch(block: bytes) -> tuple[float, float] | None:
    try:
        stated = exif.resolution(block)
    except DirectoryError:  # a Picture may be hand-made
        return None
    if stated is None or stated.unit == NO_UNIT:
        return None
    across, down = stated.per(INCH)
    return float(across), float(down)
