"""Writes a `Picture` into a file of one of the formats in `stfcodec.formats.WRITABLE`."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from stfcodec.errors import ImageError
from stfcodec.formats import WRITABLE
from stfcodec.imageio import metadata
from stfcodec.imageio.picture import Picture, to_image
from stfcodec.imageio.pillow import first_line, raised_by_pillow

_WITH_ALPHA = ("PNG", "WEBP", "TIFF")
_WITH_METADATA = ("PNG", "WEBP", "TIFF", "JPEG")
# TIFF stays uncompressed because Pillow cannot write the EXIF directory through libtiff.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}


def write_picture(picture: Picture, fp: BinaryIO, format: str = "PNG") -> tuple[str, ...]:
    """Write into a binary file, which need not be seekable.

    format: Pillow's name of it. Returns notes on metadata that the format cannot hold. Raises
    ImageError if it cannot hold the alpha plane, or the picture for another reason.
    """
    name = format.upper()
    if name not in WRITABLE.values():
        known = ", ".join(dict.fromkeys(WRITABLE.values()))
        raise ImageError(f"cannot write {format}: use one of {known}")
    if picture.alpha is not None and name not in _WITH_ALPHA:
        raise ImageError(f"{name} has no transparency: write {' or '.join(_WITH_ALPHA)} instead")
    notes: tuple[str, ...] = ()
    blocks = metadata.info_blocks(picture.icc, picture.exif, picture.xmp)
    if blocks and name not in _WITH_METADATA:
        notes = (f"{name} cannot hold: {', '.join(blocks)}",)
        blocks = {}
    image, buffer = to_image(replace(picture, icc=None, exif=None, xmp=None)), io.BytesIO()
    try:
        options = metadata.save_options(blocks, name)
        image.save(buffer, name, **_SAVE_OPTIONS.get(name, {}), **options)
    except Exception as error:  # a plugin may raise anything on a picture that does not fit
        if not raised_by_pillow(error):
            raise
        raise ImageError(f"cannot be written as {name}: {first_line(error)}") from error
    fp.write(buffer.getbuffer())  # outside the try: a full disk is no fault of the picture
    return notes


def output_format(path: str | Path) -> str:
    """Pillow's name of the format that a path's suffix stands for. Raises ImageError if none."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"unknown output extension {suffix!r}: use one of {', '.join(WRITABLE)}")
    return WRITABLE[suffix]
