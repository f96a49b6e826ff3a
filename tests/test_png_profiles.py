"""Blocks that ImageMagick and ExifTool write into PNG as text are kept."""

from __future__ import annotations

import time

import images
import numpy as np
import pytest
from metadata_files import IPTC, RDF, photoshop, png, raw_profile

from stfcodec.imageio import read_picture
from stfcodec.limits import Limits

RGB = images.pixels()
XMP = (RDF % 'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="x">').encode()
EXIF = b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0Cam\0\0\0\0\0"
URL = (0x040B, b"http://a")


@pytest.mark.parametrize(
    ("name", "data", "field", "expected"),
    [
        ("iptc", IPTC, "iptc", IPTC),
        ("iptc", photoshop((0x0404, IPTC)), "iptc", IPTC),
        ("8bim", b"Photoshop 3.0\0" + photoshop((0x0404, IPTC)), "iptc", IPTC),
        ("xmp", XMP, "xmp", XMP),
        ("APP1", b"http://ns.adobe.com/xap/1.0/\0" + XMP, "xmp", XMP),
        ("APP1", b"Exif\0\0" + EXIF, "exif", EXIF),
        ("exif", b"Exif\0\0" + EXIF, "exif", EXIF),
        ("exif", EXIF, "exif", EXIF),
        ("icc", images.srgb_profile(), "icc", images.srgb_profile()),
        ("icm", images.srgb_profile(), "icc", images.srgb_profile()),
    ],
)
def test_raw_profiles_are_kept(name: str, data: bytes, field: str, expected: bytes) -> None:
    picture = read_picture(png(raw_profile(name, data)))
    assert getattr(picture, field) == expected
    assert picture.notes[0].startswith(f"text 'Raw profile type {name}' kept as ")


def test_raw_profiles_and_chunks_for_the_same() -> None:
    other = EXIF.replace(b"Cam", b"Old")
    picture = read_picture(png(raw_profile("exif", other), (b"eXIf", EXIF)))
    assert picture.exif == EXIF
    turned = raw_profile("exif", b"Exif\0\0" + images.exif(6))
    assert np.array_equal(read_picture(png(turned)).pixels, np.rot90(RGB, -1))


def test_long_raw_profiles_are_kept() -> None:
    long = XMP + b" " * 3_000_000
    assert read_picture(png(raw_profile("xmp", long))).xmp == long
    few = read_picture(png(raw_profile("xmp", long)), Limits(metadata=1 << 20))
    assert few.xmp is None and "too long and left out" in few.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"\nxmp\n", b"\nxmp\n 4\n0a", b"\nxmp\n 1\n0", b"\nxmp\n1\n0g"),
        b"\nxmp\n" + b"9" * 5000 + b"\n00",  # more digits than `int` takes
    ],
)
def test_damaged_raw_profiles_are_named(text: bytes) -> None:
    picture = read_picture(png((b"tEXt", b"Raw profile type xmp\0" + text)))
    assert picture.xmp is None
    assert picture.notes == ("unreadable text 'Raw profile type xmp' left out",)


def test_hostile_raw_profiles_take_little_time() -> None:
    begin = time.process_time()
    for text in (b"\n" * 900_000, b" " * 900_000, b"1\n" * 450_000):
        picture = read_picture(png((b"tEXt", b"Raw profile type xmp\0" + text)))
        assert picture.notes == ("unreadable text 'Raw profile type xmp' left out",)
    assert time.process_time() - begin < 3


def test_of_many_long_raw_profiles_few_are_decompressed() -> None:
    many = (raw_profile(f"x{number}", bytes(1 << 20)) for number in range(20))
    notes = read_picture(png(*many)).notes
    assert sum(note.startswith("too long and left out") for note in notes) == 12


def test_raw_profiles_of_other_kinds_are_named() -> None:
    picture = read_picture(png(raw_profile("generic", b"abc")))
    assert picture.notes == ("not carried: text 'Raw profile type generic'",)
    empty = read_picture(png(raw_profile("8bim", photoshop(URL))))
    assert "Photoshop resources" in empty.notes[0]
