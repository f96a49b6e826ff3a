"""File formats of pictures and streams by suffix: the one list of them. Imports nothing heavy.

Formats have Pillow's names. Suffixes are in lower case and begin with a dot.
"""

from __future__ import annotations

from itertools import chain

STREAM_SUFFIX = ".stf"

STREAM_MIME = "image/x-stfcodec"
"""The MIME type of streams, which is not registered anywhere."""

READABLE: dict[str, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm", ".pnm", ".pbm"),
    "JPEG2000": (".jp2", ".j2k"),
    "QOI": (".qoi",),
    "TGA": (".tga",),
}
"""Formats that pictures are read from, each with its suffixes, in the order in which readers are
tried: TGA has no signature and comes last. Others that Pillow opens run an interpreter (EPS) or
hold no picture."""

WRITABLE: dict[str, str] = {
    **{".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF"},
    **{".tiff": "TIFF", ".bmp": "BMP", ".ppm": "PPM", ".pgm": "PPM", ".pnm": "PPM"},
}
"""Suffixes of pictures that are written, each with its format."""

DEEP = ("PNG", "TIFF", "PPM")
"""Formats of `WRITABLE` that hold 16 bits a channel."""

PICTURE_SUFFIXES = frozenset(chain.from_iterable(READABLE.values()))
"""What is taken for a picture in a folder."""

STREAM_SUFFIXES = frozenset({STREAM_SUFFIX})
