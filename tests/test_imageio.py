"""Every kind of source is read or refused in one line; every format is written."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from pathlib import Path

import images
import numpy as np
import pytest
from photographs import MATERIAL
from PIL import Image, features
from reading import read, refusal, to_8, written

from stfcodec import imageio
from stfcodec.errors import ImageError, StreamError
from stfcodec.imageio import output_format, read_picture, write_picture
from stfcodec.limits import Limits

ODD = MATERIAL / "data" / "odd"
RGB = images.pixels()
GREY = images.pixels(channels=1)
DEEP = np.arange(0, 65536, 1213, dtype=np.uint16).reshape(5, 11)  # 0 and nearly the largest


# Sources


def test_same_picture_from_every_kind_of_source(tmp_path: Path) -> None:
    data = images.file(Image.fromarray(RGB), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)

    class Pipe(io.BytesIO):  # cannot seek, and gives little at a time
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 7, 7))

        def seek(self, position: int, whence: int = 0) -> int:
            raise io.UnsupportedOperation("seek")

    sources = (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data))
    sources += (Pipe(data), RGB)
    for source in (*sources, Image.open(path), Image.fromarray(RGB)):
        picture = read_picture(source)
        assert np.array_equal(picture.pixels, RGB)
        assert (picture.gray, picture.alpha, picture.notes) == (False, None, ())
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.flags["C_CONTIGUOUS"] and picture.pixels.flags["WRITEABLE"]


def test_arrays_are_not_changed_or_shared() -> None:
    array = RGB.copy()
    picture = read_picture(array)
    picture.pixels[:] = 0
    assert np.array_equal(array, RGB)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "missing.png")
    assert "cannot be opened" in refusal(tmp_path)


@pytest.mark.parametrize("data", [b"hello", b"%!PS-Adobe-3.0\n", bytes(5000)])
def test_what_is_no_picture(data: bytes) -> None:
    assert "not a picture" in refusal(data)
    assert "empty" in refusal(b"")


@pytest.mark.parametrize("shape", [(0, 5), (5, 0, 3)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    refusal(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *[((4, 5, 7), "u1"), ((4, 5, 0), "u1"), ((4, 5, 3), "f4"), ((4, 5), "f4"), ((4, 5), "i8")],
        *[((4, 5), "u4"), ((4, 5, 3), "?"), ((4, 5), "O"), ((4, 5), "c8"), ((4, 5), "U1")],
        *[((4,), "u1"), ((), "u1"), ((2, 4, 5, 3), "u1"), ((4, 5), "i1"), ((4, 5, 1), "f8")],
    ],
)
def test_arrays_that_are_no_pictures(shape: tuple[int, ...], dtype: str) -> None:
    assert "give uint8 or uint16 (H, W)" in refusal(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    "array",
    [
        *[RGB[::-1], RGB[:, ::-1], RGB[::2, 1::3], RGB[..., ::-1], RGB.transpose(1, 0, 2)],
        *[np.asfortranarray(RGB), GREY[..., None], GREY.T, GREY[:1, :1, None]],
        *[images.pixels(channels=4)[..., :3], np.broadcast_to(GREY[:1], (5, 9))],
    ],
)
def test_arrays_of_any_layout(array: np.ndarray) -> None:
    array = array.view()
    array.flags.writeable = False
    grey = array.ndim == 2 or array.shape[2] == 1
    picture = read_picture(array)
    assert picture.gray == grey and picture.pixels.flags["WRITEABLE"]
    assert np.array_equal(picture.pixels[..., :1] if grey else picture.pixels, np.atleast_3d(array))


@pytest.mark.parametrize("order", "<>")
def test_arrays_of_16_bits_and_of_booleans(order: str) -> None:
    picture = read_picture(DEEP.astype(order + "u2")[::-1])
    assert picture.gray and picture.pixels.dtype == np.uint16 and picture.notes == ()
    assert np.array_equal(picture.pixels[..., 0], DEEP[::-1])
    planes = np.dstack([DEEP, DEEP.T.reshape(DEEP.shape), DEEP[::-1], DEEP]).astype(order + "u2")
    assert np.array_equal(read_picture(planes[..., :3]).pixels, planes[..., :3])
    assert np.array_equal(read_picture(planes).alpha, to_8(DEEP))
    assert np.array_equal(read_picture(GREY > 99).pixels[..., 0], (GREY > 99) * np.uint8(255))


def test_what_is_no_source() -> None:
    assert "NoneType" in refusal(None)
    assert "list" in refusal([[1, 2], [3, 4]])
    assert "binary mode" in refusal(io.StringIO("picture"))
    assert "cannot be opened" in refusal("zero\0byte")


@pytest.mark.parametrize("size", [(1, 1), (1, 513), (513, 1), (3000, 7)])
def test_unusual_sizes(size: tuple[int, int]) -> None:
    assert read(Image.new("RGB", size)).pixels.shape == (size[1], size[0], 3)


# Frames and damage


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animations_are_refused_with_their_length(format: str) -> None:
    if format in ("WEBP", "AVIF") and not features.check(format.lower()):
        pytest.skip(f"Pillow without {format}")
    assert "3 frames" in refusal(images.animation(format))


def test_pages_are_refused() -> None:
    assert "3 pages" in refusal(images.animation("TIFF"))


def test_first_picture_of_a_camera_file_is_taken() -> None:
    picture = read_picture(images.animation("MPO"))
    assert "first of the 3 pictures" in picture.notes[0]
    with Image.open(io.BytesIO(images.animation("MPO"))) as image:
        assert np.array_equal(picture.pixels, np.asarray(image))


@pytest.mark.filterwarnings("default")  # Pillow warns of much that it reads all the same
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "QOI"])
def test_every_cut_and_many_flips_are_read_or_refused(format: str) -> None:
    data = images.file(Image.fromarray(images.pixels(24, 24)), format)
    for end in range(0, len(data) * 3 // 4, max(1, len(data) // 60)):
        refusal(data[:end])
    random = np.random.default_rng(1)
    for _ in range(60):
        flipped = bytearray(data)
        flipped[random.integers(len(data))] ^= 1 << int(random.integers(8))
        try:
            picture = read_picture(flipped, Limits(pixels=10**6))
        except ImageError:
            continue
        assert picture.pixels.ndim == 3


# Writing


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats(format: str, channels: int) -> None:
    picture = read_picture(images.pixels(channels=channels))
    assert np.array_equal(read_picture(written(picture, format)).pixels, picture.pixels)


@pytest.mark.parametrize("format", ["JPEG", "BMP", "PPM"])
def test_alpha_is_never_dropped(format: str) -> None:
    with pytest.raises(ImageError, match="no transparency"):
        written(read_picture(images.pixels(channels=4)), format)


def test_metadata_that_a_format_cannot_hold_is_noted() -> None:
    picture = replace(read_picture(RGB), icc=images.srgb_profile())
    assert write_picture(picture, io.BytesIO(), "PPM") == ("PPM cannot hold: icc_profile",)
    assert write_picture(picture, io.BytesIO()) == ()


def test_writing_what_a_format_cannot_hold() -> None:
    with pytest.raises(ImageError, match="WEBP"):
        written(read_picture(np.zeros((1, 16384), np.uint8)), "WEBP")
    with pytest.raises(ImageError, match="use one of PNG"):
        written(read_picture(RGB), "PDF")


def test_a_full_disk_is_not_the_pictures_fault() -> None:
    class Full(io.BytesIO):
        def write(self, data) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_picture(read_picture(RGB), Full())


def test_output_format() -> None:
    assert output_format("a/b.JPG") == "JPEG"
    assert output_format(Path("x.y.tif")) == "TIFF"
    for path, words in {"a.exr": r"use one of \.png", "nosuffix": "without a suffix"}.items():
        with pytest.raises(ImageError, match=words):
            output_format(path)


# The alpha plane of a stream


def test_alpha_plane() -> None:
    data = imageio.encode_alpha(GREY)
    assert np.array_equal(imageio.decode_alpha(data, 9, 6), GREY)
    wrong = [
        b"",
        b"junk",
        data[:45],
        images.png(DEEP, 16),
        images.file(Image.new("L", (9, 6)), "GIF"),
    ]
    for bad in wrong:
        with pytest.raises(StreamError, match="alpha plane"):
            imageio.decode_alpha(bad, 9, 6)
    with pytest.raises(StreamError, match="9x6"):
        imageio.decode_alpha(data, 6, 9)


def test_alpha_of_a_stream_is_a_plain_png() -> None:
    """As `encode_alpha` writes it: what else a PNG may hold is refused, not guessed at."""
    plane = np.arange(30, dtype=np.uint8).reshape(5, 6)
    data = imageio.encode_alpha(plane)
    assert np.array_equal(imageio.decode_alpha(data, 6, 5), plane)
    end, idat = data[-12:], data.index(b"IDAT") - 4
    text = (4).to_bytes(4, "big") + b"tEXta\0bc"
    text += zlib.crc32(text[4:]).to_bytes(4, "big")
    for other in (
        data + b"\0",
        data[:-12],
        data[:-1] + b"\0",
        data[:idat] + text + data[idat:],
        data[:idat] + end,
        images.file(Image.fromarray(plane * 0).convert("1"), "PNG"),
        images.file(Image.fromarray(plane).convert("P"), "PNG"),
        b"",
    ):
        with pytest.raises(StreamError, match=r"^alpha plane: "):
            imageio.decode_alpha(other, 6, 5)
    with pytest.raises(StreamError, match="6x5 L, not as its picture"):
        imageio.decode_alpha(data, 5, 6)


# Real files


@pytest.mark.skipif(not ODD.is_dir(), reason="folder of real odd files not at hand")
@pytest.mark.parametrize("path", sorted(ODD.glob("*")), ids=lambda path: path.name)
def test_real_files(path: Path) -> None:
    if path.stem in ("anim", "not_an_image", "truncated"):
        refusal(path)
        return
    picture = read_picture(path)
    assert picture.gray == path.stem.startswith("gray")
    assert (picture.alpha is not None) == path.stem.endswith(("alpha", "trns"))
    assert (picture.icc is not None) == path.stem.startswith("icc")
    assert bool(picture.notes) == (path.stem == "cmyk")
    assert picture.pixels.dtype == (np.uint16 if "16" in path.stem else np.uint8)
