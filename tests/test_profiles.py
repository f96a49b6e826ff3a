"""ICC profiles come out whole or with a note, whatever the file that holds them."""

from __future__ import annotations

import struct
import zlib

import images
import numpy as np
import pytest
from PIL import Image, features

from stfcodec.imageio import Picture, read_picture

pytestmark = pytest.mark.skipif(
    not features.check("littlecms2"), reason="Pillow without littlecms2"
)
RGB = images.pixels()
PROFILE = images.srgb_profile() if features.check("littlecms2") else b""
LEFT_OUT = "unreadable ICC profile left out"


def read(data: bytes) -> Picture:
    picture = read_picture(data)
    assert picture.pixels.shape == RGB.shape
    return picture


def png_with(profile: bytes) -> bytes:
    body = b"iCCPname\0\0" + profile
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = images.file(Image.fromarray(RGB), "PNG")
    return data[:33] + chunk + data[33:]


def test_damaged_profile_of_a_png_is_noted() -> None:
    packed = zlib.compress(PROFILE)
    assert read(png_with(packed)).icc == PROFILE
    for end in (*range(0, len(packed) - 8, 7), len(packed) // 2):
        picture = read(png_with(packed[:end]))
        assert picture.icc is None and len(picture.notes) == 1, end
        assert "ICC profile" in picture.notes[0] and "left out" in picture.notes[0]
    assert read(png_with(b"\0" + packed)).notes == (LEFT_OUT,)


def test_profile_of_a_jpeg_that_lacks_a_part_is_noted() -> None:
    data = images.file(Image.fromarray(RGB), "JPEG", icc_profile=PROFILE)
    at = data.index(b"ICC_PROFILE\0") + 13
    picture = read(data[:at] + b"\2" + data[at + 1 :])
    assert (picture.icc, picture.notes) == (None, (LEFT_OUT,))


@pytest.mark.filterwarnings("default")  # Pillow warns of such tags
@pytest.mark.parametrize(("kind", "count"), [(7, 1 << 31), (7, 4000), (99, 10), (12, 400)])
def test_tiff_tags_that_reach_beyond_the_file_are_noted(kind: int, count: int) -> None:
    data = bytearray(images.file(Image.fromarray(RGB), "TIFF", icc_profile=PROFILE))
    assert read(bytes(data)).icc == PROFILE
    at = data.index(struct.pack("<HH", 34675, 7))
    struct.pack_into("<HI", data, at + 2, kind, count)
    picture = read(bytes(data))
    assert (picture.icc, picture.notes) == (None, (LEFT_OUT,))


def test_profile_that_states_more_bytes_than_it_has_is_noted() -> None:
    data = images.file(Image.fromarray(RGB), "WEBP", lossless=True, icc_profile=PROFILE[:-9])
    picture = read(data)
    assert picture.icc is None
    assert picture.notes == ("ICC profile that is cut short left out",)


def test_picture_of_the_host_without_a_profile_gets_no_note() -> None:
    image = Image.fromarray(RGB)
    image.info["icc_profile"] = None
    picture = read_picture(image)
    assert picture.notes == () and np.array_equal(picture.pixels, RGB)
