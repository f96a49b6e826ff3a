"""Opens whatever a caller passes as a picture with Pillow, without decoding pixels."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from stfcodec.errors import ImageError, printable
from stfcodec.imageio.by_format import jpeg, png, tiff
from stfcodec.imageio.pillow import open_image
from stfcodec.limits import Limits

Source = str | Path | bytes | bytearray | memoryview | BinaryIO | Image.Image | np.ndarray
_CHUNK_BYTES = 1 << 20
_RAW = "raw photograph ({}): develop it to TIFF or PNG first"
# First bytes of cameras' raw files, except those that are TIFF, which `tiff` recognises.
_RAW_MAGIC = {
    **{b"IIU\0": "Panasonic", b"IIRO": "Olympus", b"IIRS": "Olympus", b"MMOR": "Olympus"},
    **{b"FUJIFILMCCD-RAW": "Fujifilm", b"\0\0\0\x18ftypcrx ": "Canon"},
}


def open_source(source: object, limits: Limits, stack: ExitStack, notes: list[str]) -> Image.Image:
    """An image whose header is read. `stack` closes the files that are opened for it.

    What cannot be kept is added to `notes`. Raises ImageError if the source is no picture or has
    more bytes than `limits` allows.
    """
    if isinstance(source, Image.Image):
        if isinstance(source, TiffImagePlugin.TiffImageFile) and source.tile and source.fp:
            tiff.check_readable(source.fp, notes, by_pillow_alone=True)
        return source
    fp = _seekable(_binary_file(source, stack), limits)
    head = fp.read(16)
    fp.seek(0)
    for magic, camera in _RAW_MAGIC.items():
        if head.startswith(magic):
            raise ImageError(_RAW.format(camera))
    if head.startswith(tiff.MAGIC):
        tiff.check_readable(fp, notes)
    if head.startswith(jpeg.MAGIC):
        jpeg.check_kind(fp)
    if not head.startswith(png.MAGIC):
        return stack.enter_context(open_image(fp))
    if head[12:] == b"CgBI":
        raise ImageError("PNG of Apple's own kind (CgBI), made for iOS: convert it to PNG first")
    fp, blocks = png.without_large_chunks(fp, limits.metadata, notes)
    image = stack.enter_context(open_image(fp, ["PNG"]))
    image.info.update(blocks)
    return image


def planes_of(array: np.ndarray) -> np.ndarray:
    """A copy of an array that a caller passes as a picture: uint8 or uint16 (H, W, 1 to 4).

    Raises ImageError for shapes and types other than those of `read_picture`.
    """
    planes = array[..., None] if array.ndim == 2 else array
    dtype, channels = array.dtype, planes.shape[2] if planes.ndim == 3 else 0
    is_known = dtype.kind == "u" and dtype.itemsize <= 2 and 0 < channels <= 4
    if not is_known and not (dtype == np.bool_ and channels == 1):
        kind = f"{dtype} array of shape {array.shape}"
        raise ImageError(f"{kind}: give uint8 or uint16 (H, W), (H, W, 3) or (H, W, 4)")
    if not array.size:
        raise ImageError(f"empty picture ({array.shape[1]}x{array.shape[0]})")
    if dtype == np.bool_:
        return planes * np.uint8(255)
    return planes.astype(dtype.newbyteorder("="), order="C")


def _binary_file(source: object, stack: ExitStack) -> BinaryIO:
    """A binary file of a path, of bytes, or the source itself if it is a file."""
    if isinstance(source, str | os.PathLike):
        try:
            return stack.enter_context(Path(source).open("rb"))
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageError(f"{printable(str(source))} cannot be opened: {reason}") from error
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        raise ImageError(f"a {type(source).__name__} is no picture: give a path, bytes or an array")
    return source  # type: ignore[return-value]


def _seekable(fp: BinaryIO, limits: Limits) -> BinaryIO:
    """The file at its start, or a copy in memory if it cannot seek.

    Raises ImageError if it has more than `limits.bytes` or is a text file.
    """
    if isinstance(fp, io.TextIOBase):
        raise ImageError("opened as text: open the file in binary mode")
    try:
        fp.seek(0, os.SEEK_END)
        size = fp.tell()
        fp.seek(0)
    except (AttributeError, OSError):  # a pipe
        content = io.BytesIO()
        while chunk := fp.read(_CHUNK_BYTES):
            content.write(chunk)
            if content.tell() > limits.bytes:
                break
        fp, size = content, content.tell()
        fp.seek(0)
    if size > limits.bytes:
        raise ImageError(f"file of {size} bytes is over the limit of {limits.bytes}")
    return fp
