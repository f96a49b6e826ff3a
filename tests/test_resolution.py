"""Pixels per inch go through every format that has a place for them, and are missed elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import images
import numpy as np
import pytest
from metadata_files import jpeg, png, segment
from PIL import Image
from reading import read, written
from tiffs import tiff

from stfcodec.imageio import read_picture, to_image, write_picture
from stfcodec.imageio.metadata import exif
from stfcodec.imageio.metadata.resolution import CENTIMETRE, INCH, NO_UNIT, Resolution, per_metre

RGB = images.pixels()
IMAGE = Image.fromarray(RGB)
PLACES = ["PNG", "JPEG", "TIFF", "BMP", "WEBP"]


def dpi(data: bytes) -> tuple[float, float] | None:
    """As Pillow reads it; of WebP by EXIF."""
    image = Image.open(io.BytesIO(data))
    tags = image.getexif()
    if image.format == "WEBP" and 282 in tags:
        scale = {2: 1, 3: 2.54}[tags[296]]
        return float(tags[282]) * scale, float(tags[283]) * scale
    found = image.info.get("dpi")
    return found and (float(found[0]), float(found[1]))


def only_exif(picture) -> set[int]:
    tags = Image.Exif()
    tags.load(picture.exif)
    return set(tags)


@pytest.mark.parametrize("target", PLACES)
@pytest.mark.parametrize("source", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("wanted", [(300, 300), (72, 72), (96.5, 203.2), (1200, 600)])
def test_from_format_to_format(source: str, target: str, wanted: tuple[float, float]) -> None:
    picture = read(IMAGE, source, dpi=wanted)
    assert picture.notes == () and only_exif(picture) == {282, 283, 296}
    rounding = 0.006 if "JPEG" in (source, target) else 0.0005
    assert dpi(written(picture, target)) == pytest.approx(wanted, rel=rounding)
    assert write_picture(picture, io.BytesIO(), target) == ()


def test_whole_numbers_per_inch_survive_metres() -> None:
    for inches in (*range(1, 2000), 2400, 4800, 9600):
        picture = read(IMAGE, "PNG", dpi=(inches, inches)) if inches % 100 == 0 else None
        metre = round(inches / 0.0254)
        found = per_metre(metre, metre)
        assert found is None if inches == 1 else found == Resolution(*(Fraction(inches),) * 2, INCH)
        if picture:
            assert dpi(written(picture, "TIFF")) == (inches, inches)


def test_a_picture_without_resolution_gains_nothing() -> None:
    for format in (*PLACES, "PPM", "GIF", "QOI", "JPEG2000"):
        picture = read(IMAGE, format, **({"colorspace": "sRGB"} if format == "QOI" else {}))
        assert picture.exif is None and picture.notes == (), format
    assert read_picture(RGB).exif is None
    plain = read_picture(RGB)
    for format in ("PNG", "JPEG", "WEBP"):
        assert dpi(written(plain, format)) is None
    assert 282 not in Image.open(io.BytesIO(written(plain, "TIFF"))).tag_v2
    for stated in (b"\0\0\1\0\1", b"\1\0\1\0\1", b"\1\0\0\0\0"):  # unit, densities
        data = bytearray(images.file(IMAGE, "JPEG"))
        data[13:18] = stated
        assert read_picture(bytes(data)).exif is None
    assert read(IMAGE, "TIFF", tiffinfo={282: 1.0, 283: 1.0, 296: 1}).exif is None


def test_units_and_ratios() -> None:
    data = bytearray(images.file(IMAGE, "JPEG"))
    data[13:18] = b"\2\0\x76\0\x76"  # 118 per centimetre
    picture = read_picture(bytes(data))
    assert exif.resolution(picture.exif) == Resolution(Fraction(118), Fraction(118), CENTIMETRE)
    assert written(picture, "JPEG")[13:18] == data[13:18]
    assert png_field(written(picture, "PNG")) == (11800, 11800, 1)
    data[13:18] = b"\0\0\4\0\3"
    wide = read_picture(bytes(data))
    assert exif.resolution(wide.exif) == Resolution(Fraction(4), Fraction(3), NO_UNIT)
    assert written(wide, "JPEG")[13:18] == data[13:18]
    assert png_field(written(wide, "PNG")) == (4, 3, 0)
    again = read_picture(written(wide, "TIFF"))
    assert exif.resolution(again.exif) == exif.resolution(wide.exif)
    chunk = (b"pHYs", (4).to_bytes(4, "big") + (3).to_bytes(4, "big") + b"\0")
    assert exif.resolution(read_picture(png(chunk)).exif) == exif.resolution(wide.exif)
    assert write_picture(wide, io.BytesIO(), "BMP") == ("BMP cannot hold: resolution",)


def png_field(data: bytes) -> tuple[int, int, int]:
    at = data.index(b"pHYs") + 4
    return (
        int.from_bytes(data[at : at + 4], "big"),
        int.from_bytes(data[at + 4 : at + 8], "big"),
        data[at + 8],
    )


def test_the_files_own_fields_come_before_exif() -> None:
    tags = Image.Exif()
    tags[271], tags[282], tags[283], tags[296] = "Cam", 72.0, 72.0, 2
    picture = read(IMAGE, "JPEG", exif=tags, dpi=(300, 300))
    assert exif.resolution(picture.exif) == Resolution(Fraction(300), Fraction(300), INCH)
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept[271] == "Cam" and sorted(kept) == [271, 282, 283, 296]
    same = read(IMAGE, "JPEG", exif=tags, dpi=(72, 72))
    assert same.exif == tags.tobytes()[6:]  # not a byte is changed
    alone = read(IMAGE, "JPEG", exif=tags)
    assert alone.exif == same.exif
    assert dpi(written(alone, "BMP")) == pytest.approx((72, 72), rel=0.001)


def test_exif_keeps_its_places_when_a_resolution_is_added() -> None:
    block = images.exif(1)
    picture = read(IMAGE, "PNG", exif=b"Exif\0\0" + block, dpi=(300, 200))
    tags = Image.Exif()
    tags.load(picture.exif)
    assert tags.get_ifd(0x8769)[0x927C] == b"MAKER:note at its place"
    assert picture.exif.index(b"MAKER") == block.index(b"MAKER")
    assert tags.get_ifd(0x14) is not None and (tags[282], tags[283]) == (300, 200)
    assert 259 in tags._get_ifd_dict(tags._info.next)  # the thumbnail


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
def test_a_quarter_turn_exchanges_the_values(format: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    picture = read(IMAGE, format, exif=tags, dpi=(300, 150))
    expected = (150, 300) if orientation > 4 else (300, 150)
    assert dpi(written(picture, "TIFF")) == expected
    assert picture.pixels.shape[0] == (9 if orientation > 4 else 6)


def test_formats_without_a_place() -> None:
    picture = read(IMAGE, "PNG", dpi=(300, 300))
    assert write_picture(picture, io.BytesIO(), "PPM") == ("PPM cannot hold: resolution",)
    tags = images.exif(1)
    both = read(IMAGE, "PNG", dpi=(300, 300), exif=tags)
    assert write_picture(both, io.BytesIO(), "PPM") == ("PPM cannot hold: exif",)
    assert write_picture(both, io.BytesIO(), "BMP") == ("BMP cannot hold: exif",)
    assert dpi(written(both, "BMP")) == pytest.approx((300, 300), rel=0.001)


def test_a_missing_resolution_is_named_beside_a_profile() -> None:
    picture = replace(read(IMAGE, "PNG", dpi=(300, 300)), icc=images.srgb_profile())
    assert write_picture(picture, io.BytesIO(), "PPM") == (
        "PPM cannot hold: icc_profile, resolution",
    )


def test_a_denominator_of_zero_is_no_resolution() -> None:
    more = {282: (5, (1, 0)), 283: (5, (1, 0)), 296: (3, (2,))}
    assert read_picture(tiff(RGB, more=more)).exif is None


def test_values_that_no_field_holds() -> None:
    fine = exif.with_resolution(None, Resolution(Fraction(200_000), Fraction(200_000), CENTIMETRE))
    picture = replace(read_picture(RGB), exif=fine)
    assert write_picture(picture, io.BytesIO(), "JPEG") == ("JPEG cannot hold: resolution",)
    assert png_field(written(picture, "PNG")) == (20_000_000, 20_000_000, 1)
    huge = exif.with_resolution(
        None, Resolution(Fraction(4 * 10**9), Fraction(4 * 10**9), CENTIMETRE)
    )
    picture = replace(read_picture(RGB), exif=huge)
    for format in ("PNG", "JPEG", "BMP"):
        assert write_picture(picture, io.BytesIO(), format) == (
            f"{format} cannot hold: resolution",
        )
    assert write_picture(picture, io.BytesIO(), "TIFF") == ()
    assert exif.with_resolution(None, Resolution(Fraction(10**10), Fraction(1), INCH)) is None


@pytest.mark.parametrize(
    "value", ["x", (1,), (0, 0), (-1, 5), (float("nan"),) * 2, None, (1e99, 2)]
)
def test_nonsense_in_images_of_the_host(value: object) -> None:
    image = IMAGE.copy()
    image.info["dpi"] = value
    picture = read_picture(image)
    assert picture.exif is None and np.array_equal(picture.pixels, RGB)


def test_images_for_and_from_pillow() -> None:
    image = IMAGE.copy()
    image.info["dpi"] = (300, 300)
    picture = read_picture(image)
    assert exif.resolution(picture.exif) == Resolution(Fraction(300), Fraction(300), INCH)
    assert to_image(picture).info["dpi"] == (300, 300)
    assert "dpi" not in to_image(read_picture(RGB)).info


def test_broken_jfif_is_no_failure() -> None:
    data = images.file(IMAGE, "JPEG")
    without = data[:2] + data[20:]
    assert read_picture(without).exif is None
    assert read_picture(jpeg(segment(0, b"JFXX\0\x10"))).notes == ()
