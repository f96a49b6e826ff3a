"""ICC profiles come out whole or with a note, whatever the file that holds them."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import images
import numpy as np
import pytest
from PIL import Image, ImageCms, features
from reading import read as read_image
from reading import written

import stfcodec
from stfcodec.imageio import Picture, read_picture, write_picture

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


# Profiles of another kind than the pixels

GREY = images.pixels(channels=1)


def shown(picture: Picture) -> np.ndarray:
    """The colours in sRGB, by littlecms, which refuses a profile that does not suit the pixels."""
    image = Image.fromarray(picture.pixels[..., 0] if picture.gray else picture.pixels)
    assert picture.icc is not None
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(picture.icc)),
        ImageCms.createProfile("sRGB"),
        image.mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    return np.asarray(transform.apply(image)).astype(int)


@pytest.mark.parametrize("gamma", [1.5, 1.8, 2.2])
def test_grey_written_where_there_is_no_grey(gamma: float) -> None:
    picture = replace(read_picture(GREY), icc=images.grey_profile(gamma))
    buffer = io.BytesIO()
    notes = write_picture(picture, buffer, "WEBP")
    assert len(notes) == 1 and "grey on RGB pixels replaced by one of the same curve" in notes[0]
    again = read(buffer.getvalue())
    assert again.icc[16:20] == b"RGB " and again.notes == ()
    assert np.abs(shown(again) - shown(picture)).max() <= 1
    for format in ("PNG", "JPEG", "TIFF"):
        assert read(written(picture, format)).icc == picture.icc


@pytest.mark.parametrize("alpha", [False, True])
def test_grey_pixels_get_no_profile_for_rgb(alpha: bool) -> None:
    image = Image.fromarray(GREY)
    if alpha:
        image.putalpha(99)
    for gamma in (1.5, 2.2):
        picture = read_image(image, icc_profile=images.rgb_profile(gamma))
        assert picture.gray and picture.icc[16:20] == b"GRAY"
        assert "RGB on grey pixels replaced by one of the same curve" in picture.notes[0]
        as_rgb = replace(picture, gray=False, icc=images.rgb_profile(gamma))
        assert np.abs(shown(picture) - shown(as_rgb)).max() <= 1
    for profile in (images.rgb_profile(2.2, 1.8), images.rgb_profile(table=True)):
        picture = read_image(image, icc_profile=profile)
        assert picture.icc is None
        assert picture.notes == ("ICC profile of RGB on grey pixels left out",)


def test_rgb_pixels_get_no_profile_for_grey_or_inks() -> None:
    picture = read_image(Image.fromarray(RGB), "JPEG", icc_profile=images.grey_profile())
    assert picture.icc[16:20] == b"RGB " and "same curve" in picture.notes[0]
    for profile, name in (
        (images.grey_profile(pcs=b"Lab "), "grey"),
        (images.cmyk_profile(), "CMYK"),
    ):
        picture = read_image(Image.fromarray(RGB), icc_profile=profile)
        assert picture.icc is None
        assert picture.notes == (f"ICC profile of {name} on RGB pixels left out",)


def test_damaged_profiles_of_another_kind_are_left_out() -> None:
    whole = images.grey_profile()
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for at in random.integers(36 + 4, len(whole), size=4):
            damaged[at] = random.integers(256)
        picture = read_image(Image.fromarray(RGB), icc_profile=bytes(damaged))
        assert picture.icc is None or picture.icc[16:20] == b"RGB "
        assert len(picture.notes) == 1


def test_streams_with_a_profile_of_another_kind() -> None:
    """As earlier versions have written them."""
    data = stfcodec.encode(replace(read_picture(GREY), icc=images.rgb_profile()))
    picture = stfcodec.decode_picture(data)
    assert picture.icc[16:20] == b"GRAY" and "same curve" in picture.notes[0]
    assert stfcodec.decode(data).info["icc_profile"] == picture.icc
