"""ICC, EXIF and XMP blocks survive reading and writing; the orientation is applied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import images
import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from reading import read, written

from stfcodec.imageio import read_picture, to_image

RGB = images.pixels()


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
    thumbnail = len(block) - 18  # would still lie on its side
    assert len(picture.exif) == (len(block) if orientation == 1 else thumbnail)  # nothing has moved
    assert bool(exif.get_ifd(ExifTags.IFD.IFD1)) == (orientation == 1)
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
    for picture in pictures[1:]:
        assert b"<tiff:Orientation>1<" in picture.xmp


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
        icc=images.srgb_profile() if channels == 3 else images.grey_profile(),
        exif=read(Image.fromarray(RGB), exif=images.exif(6)).exif,
        xmp=images.XMP.replace(b"6", b"1"),
    )
    again = read_picture(written(picture, format))
    assert (again.xmp, again.notes) == (picture.xmp, ())
    if channels == 3 or format != "WEBP":  # which has no grey, see test_profiles
        assert again.icc == picture.icc
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
