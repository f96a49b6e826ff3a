"""Writes uncompressed TIFF files with EXIF, XMP, IPTC and an ICC profile.

The file begins with the EXIF block, which has the structure of a TIFF file. So all its bytes stay
where they are, those of texts as well as those that a maker's note finds by their offsets.
"""

from __future__ import annotations

import struct

import numpy as np

from stfcodec.errors import ImageError
from stfcodec.imageio.by_format import tiff_metadata
from stfcodec.imageio.metadata import exif
from stfcodec.imageio.metadata.blocks import Blocks
from stfcodec.imageio.metadata.directories import (
    BYTE,
    LONG,
    SHORT,
    UNDEFINED,
    DirectoryError,
    Field,
    Fields,
    packed_directory,
)

Parts = list[bytes | memoryview]
_KEPT_TAGS = (*tiff_metadata.DESCRIPTIVE_TAGS, *exif.RESOLUTION_TAGS, exif.CAMERA, exif.GPS)
_HEADER_BYTES = 8
_BLACK_IS_ZERO, _RGB = 1, 2
_ALPHA = 2  # not premultiplied
_MAX_BYTES = 0xFFFF_FFFF


def encode(samples: np.ndarray, blocks: Blocks) -> tuple[Parts, list[str]]:
    """The parts of a file, and the names of blocks that it cannot hold.

    samples: uint8 or uint16, grey (H, W) or (H, W, 1 to 4), grey or RGB, with alpha or without.
    Raises ImageError over 4 GiB.
    """
    missing, order, head, raw = [], "<", bytearray(_HEADER_BYTES), []
    if blocks.exif:
        try:
            head = bytearray(exif.without_thumbnail(blocks.exif))
            order = exif.byte_order(blocks.exif)
            raw = exif.raw_entries(blocks.exif, _KEPT_TAGS)
        except DirectoryError:
            missing.append("exif")
    samples = np.ascontiguousarray(samples, np.dtype(f"{order}u{samples.itemsize}"))
    head += bytes(len(head) % 2)
    directory_at = len(head) + samples.nbytes + samples.nbytes % 2
    fields = _fields(samples, len(head), order)
    contents = (
        (tiff_metadata.ICC, UNDEFINED, blocks.icc),
        (tiff_metadata.XMP, BYTE, blocks.xmp),
        (tiff_metadata.IPTC, UNDEFINED, blocks.iptc),
    )
    fields |= {tag: Field(kind, len(data), data) for tag, kind, data in contents if data}
    directory = packed_directory(order, fields, min(directory_at, _MAX_BYTES), raw)
    if directory_at + len(directory) > _MAX_BYTES:
        raise ImageError("larger than the 4 GiB that TIFF holds: write PNG instead")
    signature = b"II" if order == "<" else b"MM"
    struct.pack_into(order + "2sHI", head, 0, signature, 42, directory_at)
    padding = bytes(samples.nbytes % 2)
    return [bytes(head), samples.view(np.uint8).data.cast("B"), padding, directory], missing


def _fields(samples: np.ndarray, offset: int, order: str) -> Fields:
    """How the file stores the samples, (H, W) or (H, W, C), which lie in one strip at an offset."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    has_alpha = channels in (2, 4)

    def integers(kind: int, *values: int) -> Field:
        format = f"{order}{len(values)}{'H' if kind == SHORT else 'I'}"
        return Field(kind, len(values), struct.pack(format, *values))

    fields = {
        256: integers(LONG, width),
        257: integers(LONG, height),
        258: integers(SHORT, *(8 * samples.itemsize,) * channels),
        259: integers(SHORT, 1),  # not compressed
        262: integers(SHORT, _BLACK_IS_ZERO if channels < 3 else _RGB),
        273: integers(LONG, offset),
        277: integers(SHORT, channels),
        278: integers(LONG, height),
        279: integers(LONG, samples.nbytes),
        284: integers(SHORT, 1),  # channels interleaved
    }
    return fields | ({338: integers(SHORT, _ALPHA)} if has_alpha else {})
