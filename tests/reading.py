"""Short ways for tests to read and write pictures, and to get the message of a refusal."""

from __future__ import annotations

import io
from typing import Any

import images
import numpy as np
import pytest
from PIL import Image

from stfcodec.errors import ImageError
from stfcodec.imageio import Picture, read_picture, write_picture


def read(image: Image.Image, format: str = "PNG", **options: Any) -> Picture:
    """The image as read from a file that Pillow has written with these options."""
    return read_picture(images.file(image, format, **options))


def written(picture: Picture, format: str) -> bytes:
    buffer = io.BytesIO()
    write_picture(picture, buffer, format)
    return buffer.getvalue()


def refusal(source: Any, **options: Any) -> str:
    """The one line with which `read_picture` refuses the source."""
    with pytest.raises(ImageError) as caught:
        read_picture(source, **options)
    message = str(caught.value)
    assert message and "\n" not in message and "object at" not in message
    return message


def to_8(deep: np.ndarray) -> np.ndarray:
    """16-bit samples as 8-bit ones."""
    return np.rint(deep / 257).astype(np.uint8)
