"""Pictures of every pixel mode and depth are read as grey or RGB, or refused in one line."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

import images
import numpy as np
import pytest
from PIL import ExifTags, Image, features
from reading import read, refusal, to_8, written

from stfcodec.imageio import modes, read_picture, to_image
from stfcodec.imageio.by_format import png

RGB = images.pixels()
GREY = images.pixels(channels=1)
DEEP = np.arange(0, 65536, 1213, dtype=np.uint16).reshape(5, 11)  # 0 and nearly the largest


# Modes


def test_grey_stays_grey() -> None:
    picture = read(Image.fromarray(GREY))
    assert picture.gray and picture.notes == ()
    assert all(np.array_equal(picture.pixels[..., c], GREY) for c in range(3))
    image = to_image(replace(picture, pixels=picture.pixels + np.uint8([[[0, 1, 2]]])))
    assert image.mode == "L" and np.array_equal(np.asarray(image), GREY + 1)


def test_bilevel_is_grey() -> None:
    picture = read(Image.fromarray(GREY > 99))
    assert picture.gray and np.array_equal(picture.pixels[..., 0], (GREY > 99) * np.uint8(255))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_lossless_there_and_back(format: str, channels: int) -> None:
    array = images.pixels(channels=channels)
    picture = read_picture(array)
    assert picture.gray == (channels == 2) and np.array_equal(picture.alpha, array[..., -1])
    assert to_image(picture).mode == {2: "LA", 4: "RGBA"}[channels]
    again = read_picture(written(picture, format))
    assert np.array_equal(again.alpha, picture.alpha)
    assert np.array_equal(again.pixels, picture.pixels)


def test_opaque_alpha_is_kept() -> None:
    assert (read(Image.new("RGBA", (3, 2), (1, 2, 3, 255))).alpha == 255).all()


def test_premultiplied_alpha() -> None:
    assert read_picture(Image.new("RGBa", (2, 2), (50, 25, 0, 128))).pixels[0, 0, 0] == 99
    grey = read_picture(Image.new("LA", (2, 2), (99, 128)).convert("La"))
    assert grey.gray and abs(int(grey.pixels[0, 0, 0]) - 99) <= 1 and grey.alpha[0, 0] == 128


def test_palette_becomes_rgb() -> None:
    image = Image.fromarray(RGB).quantize(16)
    picture = read(image)
    assert not picture.gray and picture.alpha is None
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 160, 10))])
def test_palette_with_transparency_becomes_rgba(transparency: int | bytes) -> None:
    image = Image.fromarray(RGB).quantize(16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = read(image, transparency=transparency)
    table = [255] * 16 if isinstance(transparency, int) else list(transparency)
    if isinstance(transparency, int):
        table[transparency] = 0
    assert np.array_equal(picture.alpha, np.uint8(table)[np.asarray(image)])


def test_palette_with_alpha_plane() -> None:
    image = Image.fromarray(images.pixels(channels=4)).quantize(8, 2).convert("PA")
    assert read_picture(image).alpha is not None


def test_still_gif_with_transparency() -> None:
    picture = read(Image.fromarray(RGB).quantize(16), "GIF", transparency=2)
    assert set(np.unique(picture.alpha)) == {0, 255}


def test_transparent_colour() -> None:
    picture = read_picture(images.png(RGB, 8, key=tuple(int(v) for v in RGB[2, 3])))
    assert np.array_equal(picture.alpha == 0, (RGB[2, 3] == RGB).all(axis=2))
    assert np.array_equal(picture.pixels, RGB)


@pytest.mark.parametrize(
    ("mode", "key"),
    [
        *[("L", (1, 2, 3)), ("L", b"\1\2"), ("L", "x"), ("L", -1), ("I;16", (1, 2)), ("1", 0.5)],
        *[("RGB", 7), ("RGB", (1, 2)), ("RGB", (1, 2, "x")), ("P", "x"), ("P", bytes(300))],
    ],
)
def test_transparency_of_no_use_is_left_out(mode: str, key: object) -> None:
    image = Image.new(mode, (4, 3))
    image.info["transparency"] = key
    picture = read_picture(image)
    assert picture.alpha is None and image.info["transparency"] == key
    assert f"transparency of no use for mode {mode} left out" in picture.notes


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_transparent_grey_is_in_the_scale_of_the_file(bits: int) -> None:
    levels = np.arange(4 * 4).reshape(4, 4) % (1 << bits)
    picture = read_picture(images.png(levels, bits, key=(3,)))
    assert picture.gray and np.array_equal(picture.alpha == 0, levels == 3)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB"])
def test_other_colour_spaces_are_converted_with_a_note(mode: str) -> None:
    picture = read_picture(Image.new(mode, (2, 2), 128))
    assert picture.notes == (f"{mode} converted to RGB",)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_modes_without_a_known_range_are_refused_by_name(mode: str) -> None:
    kind = {"I": "32-bit signed", "F": "32-bit floating-point"}[mode]
    assert kind in refusal(images.file(Image.new(mode, (3, 2)), "TIFF"))
    assert f"mode {mode}" in refusal(Image.new(mode, (3, 2)))
    refusal(np.asarray(Image.new(mode, (3, 2))))


# CMYK


def test_cmyk_without_profile() -> None:
    image = Image.fromarray(RGB).convert("CMYK")
    for format in ("JPEG", "TIFF"):
        picture = read(image, format)
        assert picture.notes == ("CMYK without a profile converted to RGB: colours may be off",)
    assert np.array_equal(picture.pixels, RGB)


@pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow without littlecms2")
def test_cmyk_through_its_profile() -> None:
    image = Image.new("CMYK", (4, 3), (200, 0, 0, 0))
    picture = read(image, "TIFF", icc_profile=images.cmyk_profile())
    red, green, blue = (int(v) for v in picture.pixels[0, 0])
    assert red > 200 and green < 60 and blue < 60
    assert picture.icc is None and "through its profile" in picture.notes[0]


@pytest.mark.parametrize("profile", [b"no profile", images.srgb_profile()])
def test_cmyk_with_an_unusable_profile(profile: bytes) -> None:
    picture = read(Image.new("CMYK", (4, 3)), "TIFF", icc_profile=profile)
    assert picture.icc is None and "unusable" in picture.notes[0]
    assert (picture.pixels == 255).all()


# More than 8 bits


@pytest.mark.parametrize(
    "data",
    [
        images.png(DEEP, 16),
        images.tiff16(DEEP),
        images.tiff16(DEEP, ">"),
        images.tiff16(65535 - DEEP, white_is_zero=True),
        b"P5 11 5 65535\n" + DEEP.astype(">u2").tobytes(),
        images.file(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
    ],
    ids=["png", "tiff", "tiff-big-endian", "tiff-white-is-zero", "pgm", "tiff-lzw"],
)
def test_16_bit_grey(data: bytes) -> None:
    picture = read_picture(data)
    assert picture.gray and picture.pixels.dtype == np.uint16 and picture.notes == ()
    assert np.array_equal(picture.pixels[..., 0], DEEP)


DEEP_RGB = DEEP[..., None].repeat(3, axis=2) ^ np.uint16([0, 0x3000, 0x5000])


@pytest.mark.parametrize(
    "data",
    [
        images.png(DEEP_RGB, 16),
        images.tiff16(DEEP_RGB),
        images.tiff16(DEEP_RGB, ">"),
        b"P6 11 5 65535\n" + DEEP_RGB.astype(">u2").tobytes(),
    ],
    ids=["png", "tiff", "tiff-big-endian", "ppm"],
)
def test_16_bit_rgb_though_pillow_holds_8(data: bytes) -> None:
    picture = read_picture(data)
    assert np.array_equal(picture.pixels, DEEP_RGB) and picture.notes == ()
    opened = Image.open(io.BytesIO(data))
    first, second = read_picture(opened), read_picture(opened)
    assert first.notes == ("16 bits per channel reduced to 8",)
    assert np.array_equal(first.pixels, second.pixels)  # Pillow has loaded it in between
    assert np.array_equal(first.pixels, np.asarray(opened))


@pytest.mark.parametrize("peak", [256, 1023, 65535])
def test_pgm_that_pillow_has_loaded(peak: int) -> None:
    data = f"P5 11 5 {peak}\n".encode() + np.minimum(DEEP, peak).astype(">u2").tobytes()
    opened = Image.open(io.BytesIO(data))
    expected = read_picture(data).pixels
    for _ in range(2):
        found = read_picture(opened).pixels
        assert found.dtype == np.uint16 and np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("key", [0, (1, 2, 3)])
def test_a_key_of_an_image_with_alpha_is_not_used(key: object) -> None:
    opened = Image.open(io.BytesIO(images.png(np.dstack([DEEP_RGB, DEEP]), 16)))
    opened.info["transparency"] = key
    assert np.array_equal(read_picture(opened).alpha, DEEP >> 8)


def test_16_bit_alpha() -> None:
    grey = read_picture(images.png(np.dstack([DEEP, DEEP[::-1]]), 16))
    assert grey.gray and np.array_equal(grey.alpha, to_8(DEEP[::-1]))
    assert np.array_equal(grey.pixels[..., 0], DEEP)
    colour = read_picture(images.png(np.dstack([DEEP_RGB, DEEP]), 16))
    assert not colour.gray and np.array_equal(colour.alpha, to_8(DEEP))
    assert np.array_equal(colour.pixels, DEEP_RGB)
    assert grey.notes == colour.notes == ("16 bits of alpha reduced to 8",)
    full = np.uint16([0, 65535])[np.arange(DEEP.size).reshape(DEEP.shape) % 2]
    assert read_picture(images.png(np.dstack([DEEP_RGB, full]), 16)).notes == ()


def test_16_bit_transparent_colour() -> None:
    key = tuple(int(level) for level in DEEP_RGB[2, 3])
    near = DEEP_RGB.copy()
    near[2, 4] = near[2, 3] ^ np.uint16([0, 0, 1])  # one bit of 48 away
    picture = read_picture(images.png(near, 16, key=key))
    assert np.array_equal(picture.pixels, near)
    assert np.array_equal(picture.alpha, (near != key).any(axis=2) * np.uint8(255))


def test_16_bit_grey_level_that_is_transparent() -> None:
    picture = read_picture(images.png(DEEP, 16, key=(int(DEEP[1, 1]),)))
    assert np.array_equal(picture.alpha, (DEEP[1, 1] != DEEP) * np.uint8(255))


def test_16_bit_files_cut_short() -> None:
    data = b"P6 11 5 65535\n" + DEEP_RGB.astype(">u2").tobytes()
    assert "cut short" in refusal(data[:-1])
    for data in (images.png(DEEP_RGB, 16), images.tiff16(DEEP_RGB)):
        assert refusal(data[: len(data) * 2 // 3])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_pictures_are_turned_as_8_bit_ones_are(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    block = exif.tobytes()[6:]
    small = np.arange(6, dtype=np.uint16).reshape(2, 3)[..., None].repeat(3, axis=2)
    turned = []
    for factor, bits in ((40, 8), (40 * 257, 16)):
        coded = memoryview(images.png(small * np.uint16(factor), bits))
        turned.append(read_picture(b"".join(png.with_chunk(coded, b"eXIf", block))).pixels)
    assert np.array_equal(turned[0] * np.uint16(257), turned[1])


def test_depths_between() -> None:
    samples = np.arange(0, 1024, 93, dtype=">u2")
    picture = read_picture(b"P5 12 1 1023\n" + samples.tobytes())
    assert picture.notes == () and picture.pixels.dtype == np.uint16
    assert np.abs(picture.pixels[0, :, 0] - samples / 1023 * 65535).max() <= 1
    colour = read_picture(b"P6 4 1 1023\n" + samples.tobytes())
    assert np.array_equal(colour.pixels.ravel(), np.rint(samples / 1023 * 65535))


def test_small_largest_value_is_stretched() -> None:
    picture = read_picture(b"P5 3 1 3\n\0\1\3")
    assert picture.notes == () and picture.pixels[0, :, 0].tolist() == [0, 85, 255]


@pytest.mark.skipif(not features.check_codec("jpg_2000"), reason="Pillow without OpenJPEG")
def test_jpeg_2000_depth() -> None:
    picture = read(Image.fromarray(DEEP), "JPEG2000")
    assert picture.notes == () and np.array_equal(picture.pixels[..., 0], DEEP)
    assert read(Image.fromarray(RGB), "JPEG2000").notes == ()


@pytest.mark.skipif(not features.check_codec("jpg_2000"), reason="Pillow without OpenJPEG")
def test_deep_colour_jpeg_2000_is_refused() -> None:
    data = bytes.fromhex(images.WHITE_JPEG_2000_10_BITS)
    assert np.asarray(Image.open(io.BytesIO(data)))[1, 1, 0] == 0  # once it is 255, read it
    assert "10-bit colour" in refusal(data)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
@pytest.mark.parametrize(("flags", "bits"), [(0x00, 8), (0x40, 10), (0x60, 12)])
def test_avif_depth(flags: int, bits: int) -> None:
    data = bytearray(images.file(Image.fromarray(RGB), "AVIF"))
    assert read_picture(data).notes == ()
    image = Image.open(io.BytesIO(data))
    data[data.index(b"av1C") + 6] |= flags
    image.fp = io.BytesIO(data)  # the rest of a file of that depth cannot be made with Pillow
    assert modes.bits_per_channel(image) == bits
