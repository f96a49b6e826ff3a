"""From whatever a caller hands in to a Pillow image of which no pixel is decoded yet."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from stfcodec.errors import ImageError
from stfcodec.imageio import png, tiff
from stfcodec.imageio.pillow import open_image
from stfcodec.limits import Limits

Source = str | Path | bytes | bytearray | memoryview | BinaryIO | Image.Image | np.ndarray
_PIECE = 1 << 20
_RAW = "raw photograph ({}): develop it to TIFF or PNG first"
# Cameras' files that no reader here opens. TIFF ones are told in `tiff`.
_CAMERAS = {
    **{b"IIU\0": "Panasonic", b"IIRO": "Olympus", b"IIRS": "Olympus", b"MMOR": "Olympus"},
    **{b"FUJIFILMCCD-RAW": "Fujifilm", b"\0\0\0\x18ftypcrx ": "Canon"},
}


def open_source(source: Source, limits: Limits, stack: ExitStack, notes: list[str]) -> Image.Image:
    """An image whose header is read; files opened for it are closed by `stack`.

    Raises ImageError, for one if the input has more bytes than `limits` allows.
    """
    if isinstance(source, Image.Image):
        if isinstance(source, TiffImagePlugin.TiffImageFile) and source.tile and source.fp:
            tiff.check(source.fp, notes, by_pillow_alone=True)
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    fp = _buffered(_binary(source, stack), limits)
    head = fp.read(16)
    fp.seek(0)
    for magic, camera in _CAMERAS.items():
        if head.startswith(magic):
            raise ImageError(_RAW.format(camera))
    if head.startswith(tiff.MAGIC):
        tiff.check(fp, notes)
    if not head.startswith(png.MAGIC):
        return stack.enter_context(open_image(fp))
    fp, blocks = png.without_large_blocks(fp, limits.metadata, notes)
    image = stack.enter_context(open_image(fp, ["PNG"]))
    image.info.update(blocks)
    return image


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    dtype, channels = array.dtype, array.shape[2] if array.ndim == 3 else 1
    deep = dtype.kind == "u" and dtype.itemsize == 2
    known = (dtype == np.uint8 and 0 < channels <= 4) or (
        (deep or dtype == np.bool_) and channels == 1
    )
    if array.ndim not in (2, 3) or not known:
        kind = f"{dtype} array of shape {array.shape}"
        raise ImageError(f"{kind}: give uint8 (H, W), (H, W, 3) or (H, W, 4)")
    if not array.size:
        raise ImageError(f"empty picture ({array.shape[1]}x{array.shape[0]})")
    return Image.fromarray(np.ascontiguousarray(array, np.uint16 if deep else None))


def _binary(source: object, stack: ExitStack) -> BinaryIO:
    if isinstance(source, str | os.PathLike):
        try:
            return stack.enter_context(Path(source).open("rb"))
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            why = getattr(error, "strerror", None) or str(error)
            raise ImageError(f"cannot be opened: {why}") from error
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if not hasattr(source, "read"):
        raise ImageError(f"a {type(source).__name__} is no picture: give a path, bytes or an array")
    return source  # type: ignore[return-value]


def _buffered(fp: BinaryIO, limits: Limits) -> BinaryIO:
    """The file at its start, or its content if it cannot seek; at most `limits.bytes` of it."""
    if isinstance(fp, io.TextIOBase):
        raise ImageError("opened as text: open the file in binary mode")
    try:
        fp.seek(0, os.SEEK_END)
        size = fp.tell()
        fp.seek(0)
    except (AttributeError, OSError):  # a pipe
        content = io.BytesIO()
        while piece := fp.read(_PIECE):
            content.write(piece)
            if content.tell() > limits.bytes:
                break
        fp, size = content, content.tell()
        fp.seek(0)
    if size > limits.bytes:
        raise ImageError(f"file of {size} bytes is over the limit of {limits.bytes}")
    return fp
