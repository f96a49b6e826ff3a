"""The alpha plane as streams carry it: a plain 8-bit grey PNG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from stfcodec.errors import ImageError, StreamError
from stfcodec.imageio.by_format import png
from stfcodec.imageio.pillow import errors_as_image_errors, open_image


def encode_alpha(alpha: np.ndarray) -> bytes:
    """A plane, uint8 (H, W), as a grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(alpha).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def decode_alpha(data: bytes, width: int, height: int) -> np.ndarray:
    """The plane, uint8 (height, width), from what `encode_alpha` returned.

    The size is checked before anything is decoded. Raises StreamError if the data is anything else.
    """
    try:
        with errors_as_image_errors():
            png.check_plain_grey(data)
            image = open_image(io.BytesIO(data), ["PNG"])
            if image.mode != "L" or image.size != (width, height):
                raise ImageError(f"{image.width}x{image.height} {image.mode}, not as its picture")
            return np.array(image)
    except ImageError as error:
        raise StreamError(f"alpha plane: {error}") from error
