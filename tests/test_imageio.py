"""Pictures of every awkward kind go in, or are refused in one line; metadata comes out again."""

from __future__ import annotations

import io
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import images
import numpy as np
import pytest
from PIL import ExifTags, Image, features
from PIL.PngImagePlugin import PngInfo

from stfcodec import imageio
from stfcodec.errors import ImageError, StreamError
from stfcodec.imageio import modes, output_format, read_picture, to_image, write_picture
from stfcodec.limits import Limits

ODD = Path(__file__).resolve().parents[2] / "shared" / "data" / "odd"
RGB = images.pixels()
GREY = images.pixels(channels=1)
DEEP = np.arange(0, 65536, 1213, dtype=np.uint16).reshape(5, 11)  # 0 and nearly the largest


def read(image: Image.Image, format: str = "PNG", **options) -> imageio.Picture:
    return read_picture(images.file(image, format, **options))


def written(picture: imageio.Picture, format: str) -> bytes:
    buffer = io.BytesIO()
    write_picture(picture, buffer, format)
    return buffer.getvalue()


def refusal(source, **options) -> str:
    with pytest.raises(ImageError) as caught:
        read_picture(source, **options)
    message = str(caught.value)
    assert message and "\n" not in message and "object at" not in message
    return message


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
        *[((4, 5, 3), "u2"), ((4, 5, 3), "?"), ((4, 5), "O"), ((4, 5), "c8"), ((4, 5), "U1")],
        *[((4,), "u1"), ((), "u1"), ((2, 4, 5, 3), "u1"), ((4, 5), "i1"), ((4, 5, 1), "f8")],
    ],
)
def test_arrays_that_are_no_pictures(shape: tuple[int, ...], dtype: str) -> None:
    assert "uint8 (H, W)" in refusal(np.zeros(shape, dtype))


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
    assert picture.gray and np.array_equal(picture.pixels[..., 0], to_8(DEEP)[::-1])
    assert picture.notes == ("16 bits per channel reduced to 8",)
    assert np.array_equal(read_picture(GREY > 99).pixels[..., 0], (GREY > 99) * np.uint8(255))


def test_what_is_no_source() -> None:
    assert "NoneType" in refusal(None)
    assert "list" in refusal([[1, 2], [3, 4]])
    assert "binary mode" in refusal(io.StringIO("picture"))
    assert "cannot be opened" in refusal("zero\0byte")


@pytest.mark.parametrize("size", [(1, 1), (1, 513), (513, 1), (3000, 7)])
def test_unusual_sizes(size: tuple[int, int]) -> None:
    assert read(Image.new("RGB", size)).pixels.shape == (size[1], size[0], 3)


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


def to_8(deep: np.ndarray) -> np.ndarray:
    return np.rint(deep / 257).astype(np.uint8)


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
    assert picture.gray and np.array_equal(picture.pixels[..., 0], to_8(DEEP))
    assert picture.notes == ("16 bits per channel reduced to 8",)


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
def test_16_bit_rgb_is_noticed_though_pillow_says_nothing(data: bytes) -> None:
    picture = read_picture(data)
    assert np.abs(picture.pixels - DEEP_RGB / 257).max() <= 1
    assert picture.notes == ("16 bits per channel reduced to 8",)
    assert read_picture(Image.open(io.BytesIO(data))).notes == picture.notes


def test_16_bit_alpha() -> None:
    grey = read_picture(images.png(np.dstack([DEEP, DEEP[::-1]]), 16))
    assert grey.gray and np.array_equal(grey.alpha, DEEP[::-1] >> 8)
    colour = read_picture(images.png(np.dstack([DEEP_RGB, DEEP]), 16))
    assert not colour.gray and np.array_equal(colour.alpha, DEEP >> 8)
    assert grey.notes == colour.notes == ("16 bits per channel reduced to 8",)


def test_16_bit_transparent_colour_is_refused() -> None:
    assert "alpha channel" in refusal(images.png(DEEP_RGB, 16, key=(1, 2, 3)))


def test_depths_between() -> None:
    samples = np.arange(0, 1024, 93, dtype=">u2")
    picture = read_picture(b"P5 12 1 1023\n" + samples.tobytes())
    assert picture.notes == ("10 bits per channel reduced to 8",)
    assert np.array_equal(picture.pixels[0, :, 0], np.rint(samples / 1023 * 255))


def test_small_largest_value_is_stretched() -> None:
    picture = read_picture(b"P5 3 1 3\n\0\1\3")
    assert picture.notes == () and picture.pixels[0, :, 0].tolist() == [0, 85, 255]


@pytest.mark.skipif(not features.check_codec("jpg_2000"), reason="Pillow without OpenJPEG")
def test_jpeg_2000_depth() -> None:
    picture = read(Image.fromarray(DEEP), "JPEG2000")
    assert picture.notes == ("16 bits per channel reduced to 8",)
    assert np.array_equal(picture.pixels[..., 0], to_8(DEEP))
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


# Frames and damage


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animations_are_refused_with_their_length(format: str) -> None:
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


# Metadata


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_removed(orientation: int, order: str) -> None:
    block = images.exif(orientation, order)
    image = Image.fromarray(RGB)
    picture = read(image, exif=b"Exif\0\0" + block)
    turned = {
        **{1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1]},
        **{5: RGB.transpose(1, 0, 2), 6: np.rot90(RGB, -1), 8: np.rot90(RGB)},
        7: np.rot90(RGB.transpose(1, 0, 2), 2),
    }
    assert np.array_equal(picture.pixels, turned[orientation])
    exif = Image.Exif()
    exif.load(picture.exif)
    assert 0x0112 not in exif and exif[0x010F] == "Cam"
    assert exif.get_ifd(0x8769)[0x927C] == b"MAKER:note at its place"
    assert len(picture.exif) == len(block)  # nothing has moved
    assert bool(exif.get_ifd(ExifTags.IFD.IFD1)) == (
        orientation == 1
    )  # a thumbnail would still lie on its side
    assert read_picture(written(picture, "PNG")).exif == picture.exif


def test_orientation_alone_leaves_no_exif() -> None:
    block = Image.Exif()
    block[0x0112] = 3
    picture = read(Image.fromarray(RGB), "PNG", exif=block)
    assert picture.exif is None and np.array_equal(picture.pixels, RGB[::-1, ::-1])


def test_tiff_and_xmp_orientation() -> None:
    tiff_tags = ({"exif": images.exif(6)}, {"tiffinfo": {700: images.XMP}})
    pictures = [read(Image.fromarray(RGB), "TIFF", **tags) for tags in tiff_tags]
    pictures.append(read(Image.fromarray(RGB), "WEBP", lossless=True, xmp=images.XMP))
    for picture in pictures:
        assert np.array_equal(picture.pixels, np.rot90(RGB, -1))
    assert b"Orientation" not in pictures[1].xmp  # Pillow's doing
    assert b"<tiff:Orientation>1<" in pictures[2].xmp


@pytest.mark.parametrize(
    "block", [b"rubbish", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"]
)
def test_unreadable_exif_spoils_no_picture(block: bytes) -> None:
    picture = read(Image.fromarray(RGB), exif=block)
    assert picture.exif is None and "unreadable EXIF" in picture.notes[0]
    assert np.array_equal(picture.pixels, RGB)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_metadata_there_and_back(format: str, channels: int) -> None:
    picture = replace(
        read_picture(images.pixels(channels=channels)),
        icc=images.srgb_profile(),
        exif=read(Image.fromarray(RGB), exif=images.exif(6)).exif,
        xmp=images.XMP.replace(b"6", b"1"),
    )
    again = read_picture(written(picture, format))
    assert (again.icc, again.xmp, again.notes) == (picture.icc, picture.xmp, ())
    exif = Image.Exif()
    exif.load(again.exif)
    assert exif[0x010F] == "Cam" and 0x0112 not in exif
    assert exif.get_ifd(0x8769)[0x927C] == b"MAKER:note at its place"
    if format != "TIFF":  # which takes the block apart
        assert again.exif == picture.exif
    if format != "JPEG":
        assert np.array_equal(again.pixels, picture.pixels)
    assert again.gray == (channels == 1 and format != "WEBP")


def test_exif_that_describes_another_file_does_not_break_a_tiff() -> None:
    block = Image.Exif()
    block[0x0100], block[0x0101], block[0x010F] = 4000, 3000, "Cam"
    picture = replace(read_picture(RGB), exif=block.tobytes()[6:])
    again = read_picture(written(picture, "TIFF"))
    assert np.array_equal(again.pixels, RGB) and again.exif is not None


def test_image_for_pillow_users(tmp_path: Path) -> None:
    picture = replace(read_picture(RGB), icc=images.srgb_profile(), exif=images.exif(1))
    image = to_image(picture)
    image.save(tmp_path / "a.jpg", exif=image.info["exif"], icc_profile=image.info["icc_profile"])
    again = read_picture(tmp_path / "a.jpg")
    assert again.icc == picture.icc and again.exif is not None


def test_what_is_left_out_is_noted() -> None:
    text = PngInfo()
    text.add_text("Title", "rainbow")
    picture = read(Image.fromarray(RGB), pnginfo=text)
    assert picture.notes == ("not carried: text 'Title'",)
    assert read(Image.fromarray(RGB), "JPEG", comment=b"hi").notes == ("not carried: comment",)


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
    with pytest.raises(ImageError, match="JPEG"):
        written(replace(read_picture(RGB), xmp=bytes(70000)), "JPEG")
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
    for path in ("noextension", "a.exr"):
        with pytest.raises(ImageError, match=r"use one of \.png"):
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
    assert bool(picture.notes) == ("16" in path.stem or path.stem == "cmyk")
