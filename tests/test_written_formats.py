"""Every format that decode writes, encode reads: nothing is lost that no warning names."""

from __future__ import annotations

import io
from dataclasses import replace

import images
import numpy as np
import pytest
from PIL import Image, features
from reading import read

from stfcodec.errors import ImageError
from stfcodec.formats import WRITABLE
from stfcodec.imageio import Picture, on_background, read_picture, write_picture

pytestmark = pytest.mark.skipif(
    not features.check("littlecms2"), reason="Pillow without littlecms2"
)
FORMATS = tuple(dict.fromkeys(WRITABLE.values()))
WITH_ALPHA = {"PNG", "WEBP", "TIFF"}
WITH_METADATA = WITH_ALPHA | {"JPEG"}
BLOCKS = ("icc", "exif", "xmp")


def picture(gray: bool, alpha: str, blocks: tuple[str, ...]) -> Picture:
    """Smooth pixels, as JPEG too keeps them well. alpha: none, opaque or transparent."""
    y, x, c = np.mgrid[:40, :56, :3]
    pixels = (3 * y + x + 30 * c * (not gray)).astype(np.uint8)
    planes = {"none": None, "opaque": np.full((40, 56), 255), "transparent": 5 * y[..., 0] + 40}
    plane = planes[alpha]
    full = {
        "icc": images.grey_profile(2.2) if gray else images.rgb_profile(2.2),
        "exif": read(Image.new("RGB", (4, 3)), exif=images.exif(1)).exif,
        "xmp": images.XMP.replace(b"6", b"1"),
    }
    return Picture(
        pixels,
        gray=gray,
        alpha=None if plane is None else plane.astype(np.uint8),
        **{name: full[name] for name in blocks},
    )


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("gray", [False, True], ids=["rgb", "grey"])
@pytest.mark.parametrize("alpha", ["none", "opaque", "transparent"])
@pytest.mark.parametrize("blocks", [(), ("icc",), ("exif",), ("xmp",), BLOCKS], ids=str)
def test_there_and_back(format: str, gray: bool, alpha: str, blocks: tuple[str, ...]) -> None:
    source, buffer = picture(gray, alpha, blocks), io.BytesIO()
    if alpha == "transparent" and format not in WITH_ALPHA:
        with pytest.raises(ImageError, match="no transparency"):
            write_picture(source, buffer, format)
        source = on_background(source, "tomato")
        gray = source.gray
    notes = "; ".join(write_picture(source, buffer, format))
    again = read_picture(buffer.getvalue())

    difference = np.abs(again.pixels.astype(int) - source.pixels)
    assert difference.max() <= (4 if format == "JPEG" else 0)
    if alpha == "transparent" and format in WITH_ALPHA:
        assert np.array_equal(again.alpha, source.alpha)
    elif again.alpha is not None:
        assert (again.alpha == 255).all() and alpha == "opaque"
    assert again.gray == gray or format == "WEBP"
    for name in blocks:
        if format not in WITH_METADATA:
            assert {"icc": "icc_profile"}.get(name, name) in notes
            assert getattr(again, name) is None
        elif name == "icc" and format == "WEBP" and gray:
            assert again.icc[16:20] == b"RGB " and "same curve" in notes
        elif name != "exif":
            assert getattr(again, name) == getattr(source, name)
        else:
            kept = Image.Exif()
            kept.load(again.exif)
            assert kept[0x010F] == "Cam"
    if format in WITH_METADATA and not (gray and format == "WEBP" and "icc" in blocks):
        assert notes == ""
    assert again.notes == ()


def test_what_is_written_is_read_as_the_same_kind_of_pixels() -> None:
    for format in FORMATS:
        buffer = io.BytesIO()
        write_picture(replace(picture(True, "none", ()), gray=True), buffer, format)
        with Image.open(buffer) as image:
            assert image.mode == ("RGB" if format == "WEBP" else "L")
