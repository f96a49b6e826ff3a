"""Writes a `Picture` into a file of one of the formats in `stfcodec.formats.WRITABLE`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stfcodec.errors import ImageError
from stfcodec.formats import DEEP, WRITABLE
from stfcodec.imageio import deep, encoders
from stfcodec.imageio.colours import profiles
from stfcodec.imageio.hidden import is_opaque
from stfcodec.imageio.metadata.blocks import Blocks
from stfcodec.imageio.picture import Picture, to_image
from stfcodec.imageio.pillow import first_line, raised_by_pillow

_WITH_ALPHA = ("PNG", "WEBP", "TIFF")
_WITHOUT_GREY = ("WEBP",)


def write_picture(picture: Picture, fp: BinaryIO, format: str = "PNG") -> tuple[str, ...]:
    """Write into a binary file, which need not be seekable.

    format: Pillow's name of it. 16 bits a channel become 8 in formats that hold no more. Returns
    notes on metadata that the format cannot hold. Raises ImageError if it cannot hold the
    transparency, or the picture for another reason.
    """
    name = format.upper()
    if picture.pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"pixels are {picture.pixels.dtype}: give uint8 or uint16")
    if name not in WRITABLE.values():
        known = ", ".join(dict.fromkeys(WRITABLE.values()))
        raise ImageError(f"cannot write {format}: use one of {known}")
    if name not in _WITH_ALPHA:
        if not is_opaque(picture):
            others = ", ".join(_WITH_ALPHA)
            raise ImageError(
                f"{name} has no transparency: write one of {others}, or give a --background"
            )
        picture = replace(picture, alpha=None)
    notes: list[str] = []
    icc = picture.icc
    if name in encoders.WITH_PROFILE:
        icc = profiles.fitted(icc, picture.gray and name not in _WITHOUT_GREY, notes)
    blocks = Blocks(icc, picture.exif, picture.xmp, picture.iptc)
    try:
        if picture.pixels.dtype == np.uint16 and name in DEEP:
            parts, missing = encoders.encode_deep(deep.samples_of(picture), name, blocks)
        else:
            image = to_image(replace(picture, icc=None, exif=None, xmp=None))
            parts, missing = encoders.encode(image, name, blocks)
    except Exception as error:  # a plugin may raise anything on a picture that does not fit
        if not raised_by_pillow(error):
            raise
        raise ImageError(f"cannot be written as {name}: {first_line(error)}") from error
    if missing:
        notes.append(f"{name} cannot hold: {', '.join(missing)}")
    # Outside the try: a full disk is no fault of the picture. Not every file has `writelines`.
    for part in parts:  # noqa: FURB122
        fp.write(part)
    return tuple(notes)


def output_format(path: str | Path) -> str:
    """Pillow's name of the format that a path's suffix stands for. Raises ImageError if none."""
    suffix = Path(path).suffix.lower()
    if not suffix:
        raise ImageError("without a suffix: name it .png or the like, or end a folder's name in /")
    if suffix not in WRITABLE:
        raise ImageError(f"unknown output extension {suffix!r}: use one of {', '.join(WRITABLE)}")
    return WRITABLE[suffix]
