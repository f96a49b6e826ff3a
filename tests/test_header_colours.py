"""Colours that the headers of BMP, QOI and JPEG 2000 state are carried or noted."""

from __future__ import annotations

import io
import struct

import images
import numpy as np
import pytest
from PIL import Image, features
from test_colour import COLOURS, expected, through_profile

from stfcodec.errors import ImageError
from stfcodec.imageio import read_picture
from stfcodec.limits import Limits

pytestmark = pytest.mark.skipif(
    not features.check("littlecms2"), reason="Pillow without littlecms2"
)
needs_jpeg_2000 = pytest.mark.skipif(
    not features.check_codec("jpg_2000"), reason="Pillow without OpenJPEG"
)
PIXELS = np.uint8([COLOURS, COLOURS])
SRGB_XYZ = (0.4124, 0.2126, 0.0193, 0.3576, 0.7152, 0.1192, 0.1805, 0.0722, 0.9505)
SRGB_XY = (0.64, 0.33, 0.03, 0.30, 0.60, 0.10, 0.15, 0.06, 0.79)
ADOBE_XY = (0.64, 0.33, 0.03, 0.21, 0.71, 0.08, 0.15, 0.06, 0.79)
P3_XYZ = (0.4866, 0.2290, 0.0, 0.2657, 0.6917, 0.0451, 0.1982, 0.0793, 1.0439)


# BMP


def bmp(
    kind: bytes = bytes(4),
    ends: tuple[float, ...] = (0,) * 9,
    gammas: tuple[float, ...] = (0,) * 3,
    profile: bytes = b"",
    size: int = 124,
    claimed: int | None = None,
    gray: bool = False,
) -> bytes:
    plain = images.file(Image.fromarray(PIXELS[..., 0] if gray else PIXELS), "BMP")
    start = struct.unpack_from("<I", plain, 10)[0]
    palette, pixels = plain[54:start], plain[start:]
    header = struct.pack("<I", size) + plain[18:54] + bytes(16) + kind
    header += struct.pack("<9I", *(round(value * (1 << 30)) for value in ends))
    header += struct.pack("<3I", *(round(value * (1 << 16)) for value in gammas))
    if size == 124:
        at = size + len(palette) + len(pixels)
        length = len(profile) if claimed is None else claimed
        header += struct.pack("<4I", 4, at, length, 0)
    whole = header + palette + pixels + profile
    return b"BM" + struct.pack("<IHHI", 14 + len(whole), 0, 0, 14 + size + len(palette)) + whole


@pytest.mark.parametrize("size", [108, 124])
@pytest.mark.parametrize(
    ("ends", "gammas", "space", "exponent"),
    [
        (P3_XYZ, (0, 0, 0), "P3", None),
        (ADOBE_XY, (2.2, 2.2, 2.2), "Adobe", 2.2),
        (ADOBE_XY, (0.4545, 0.4545, 0.4545), "Adobe", 2.2),
        (SRGB_XYZ, (1, 1, 1), "sRGB", 1),
        ((0,) * 9, (1.8, 1.8, 1.8), "sRGB", 1.8),
    ],
)
def test_calibrated_bmp(size: int, ends: tuple, gammas: tuple, space: str, exponent: float) -> None:
    data = bmp(ends=ends, gammas=gammas, size=size)
    picture = read_picture(data)
    assert np.array_equal(picture.pixels, PIXELS)
    assert len(picture.notes) == 1 and "BMP header: kept as an ICC profile" in picture.notes[0]
    assert np.abs(through_profile(picture) - expected(PIXELS, space, exponent)).max() <= 2
    assert read_picture(Image.open(io.BytesIO(data))).icc == picture.icc


@pytest.mark.parametrize(
    ("kind", "ends", "gammas"),
    [
        (bytes(4), (0,) * 9, (0,) * 3),
        (bytes(4), SRGB_XYZ, (0,) * 3),
        (bytes(4), SRGB_XY, (2.2, 2.2, 2.2)),
        (b"BGRs", P3_XYZ, (1.8, 1.8, 1.8)),
        (b" niW", P3_XYZ, (1.8, 1.8, 1.8)),
    ],
)
def test_srgb_bmp(kind: bytes, ends: tuple, gammas: tuple) -> None:
    picture = read_picture(bmp(kind, ends, gammas))
    assert (picture.icc, picture.notes) == (None, ())


def test_bmp_of_unlike_or_senseless_curves_is_noted() -> None:
    for gammas, words in (((1, 2, 2), "unlike curves"), ((99, 99, 99), "makes no sense")):
        picture = read_picture(bmp(ends=SRGB_XYZ, gammas=gammas))
        assert picture.icc is None and words in picture.notes[0], gammas
    for ends in ((0, 0, 0) * 2 + (1, 1, 1), (3.9,) * 9, (0.5, 0, 0) * 3):
        assert read_picture(bmp(ends=ends)).notes, ends


def test_profile_of_a_bmp() -> None:
    profile = images.srgb_profile()
    data = bmp(b"DEBM", profile=profile)
    for source in (data, Image.open(io.BytesIO(data))):
        picture = read_picture(source)
        assert picture.icc == profile and picture.notes == ()
    assert "too long" in read_picture(data, Limits(metadata=300)).notes[0]
    for claimed in (len(profile) + 1, 1 << 31, 0):
        picture = read_picture(bmp(b"DEBM", profile=profile, claimed=claimed))
        assert (picture.icc, picture.notes) == (None, ("unreadable ICC profile left out",))
    assert "another file" in read_picture(bmp(b"KNIL", profile=b"a.icc\0")).notes[0]


def test_grey_bmp_gets_a_grey_profile() -> None:
    picture = read_picture(bmp(ends=P3_XYZ, gammas=(1.8, 1.8, 1.8), gray=True))
    assert picture.gray and picture.icc is not None and picture.icc[16:20] == b"GRAY"


# QOI


def test_linear_qoi() -> None:
    data = images.file(Image.fromarray(PIXELS), "QOI")
    assert read_picture(data[:13] + b"\0" + data[14:]).notes == ()
    linear = data[:13] + b"\1" + data[14:]
    picture = read_picture(linear)
    assert np.array_equal(picture.pixels, PIXELS)
    assert picture.notes == ("linear light stated by QOI header: colours taken for sRGB",)
    assert picture.icc is None


# JPEG 2000


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def jp2(*statements: bytes, channels: int = 3) -> bytes:
    pixels = images.pixels(20, 30, channels)
    data = images.file(Image.fromarray(pixels), "JPEG2000")
    at = data.index(b"jp2h") - 4
    size = struct.unpack_from(">I", data, at)[0]
    colr = data.index(b"colr") - 4
    old = struct.unpack_from(">I", data, colr)[0]
    content = data[at + 8 : colr] + b"".join(box(b"colr", s) for s in statements)
    content += data[colr + old : at + size]
    return data[:at] + box(b"jp2h", content) + data[at + size :]


def space(code: int) -> bytes:
    return struct.pack(">3BI", 1, 0, 0, code)


@needs_jpeg_2000
@pytest.mark.parametrize("method", [2, 3])
def test_profile_of_a_jp2(method: int) -> None:
    profile = images.srgb_profile()
    data = jp2(bytes((method, 0, 0)) + profile)
    for source in (data, Image.open(io.BytesIO(data))):
        picture = read_picture(source)
        assert picture.icc == profile and picture.notes == ()
    assert np.array_equal(picture.pixels, images.pixels(20, 30))
    cut = read_picture(jp2(bytes((method, 0, 0)) + profile[:-9]))
    assert cut.icc is None and "cut short" in cut.notes[0]


@needs_jpeg_2000
def test_first_statement_of_a_jp2_counts() -> None:
    profile = b"\2\0\0" + images.srgb_profile()
    assert read_picture(jp2(space(16), profile)).icc is None
    assert read_picture(jp2(profile, space(21))).icc == profile[3:]
    assert read_picture(jp2(b"\7\0\0rest", profile)).icc == profile[3:]


@needs_jpeg_2000
@pytest.mark.parametrize(
    ("code", "channels", "words"),
    [
        *[(16, 3, None), (17, 1, None), (12, 4, "CMYK without a profile")],
        *[(21, 3, "ROMM RGB stated by JP2 colr is not supported: colours taken for sRGB")],
        *[(14, 3, "CIELab"), (999, 3, "colour space 999"), (20, 3, "e-sRGB")],
    ],
)
def test_enumerated_colours_of_a_jp2(code: int, channels: int, words: str | None) -> None:
    picture = read_picture(jp2(space(code), channels=channels))
    assert [words in note for note in picture.notes] == ([True] if words else [])


@needs_jpeg_2000
def test_jp2_in_ycbcr_is_decoded() -> None:
    picture = read_picture(jp2(space(18)))
    assert picture.notes == ()
    assert not np.array_equal(picture.pixels, images.pixels(20, 30))


@needs_jpeg_2000
def test_jp2_of_inks_by_its_profile_is_refused() -> None:
    with pytest.raises(ImageError, match="of inks"):
        read_picture(jp2(b"\3\0\0" + images.cmyk_profile(), channels=4))
