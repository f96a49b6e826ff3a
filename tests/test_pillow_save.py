"""Pillow and imageio save .stf files: options, metadata, frames, and what fails."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageCms

import stfcodec
from stfcodec import pillow as plugin

plugin.register()

FULL = Path(__file__).parent / "golden" / "wacnn-lite-3.5-70x50-full.stf"
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
METADATA = ("icc_profile", "exif", "xmp", "dpi")


@pytest.fixture
def image() -> Image.Image:
    return Image.linear_gradient("L").resize((48, 40)).convert("RGB")


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "STF", **options)
    return buffer.getvalue()


def info_of(data: bytes) -> dict[Any, Any]:
    with Image.open(io.BytesIO(data)) as opened:
        return opened.info


def test_images_are_saved_as_encode_codes_them(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "a.stf"
    image.save(path)
    assert path.read_bytes() == saved(image) == stfcodec.encode(image)
    with path.open("wb") as file:
        image.save(file, "STF", model="stf-lite", quality=3.5, effort=1)
    assert path.read_bytes() == stfcodec.encode(image, model="stf-lite", quality=3.5, effort=1)
    info = info_of(path.read_bytes())
    assert (info["model"], info["quality"]) == ("stf-lite", 3.5)
    assert len(saved(image, target=stfcodec.Target("size", 120))) <= 120


@pytest.mark.parametrize(
    ("mode", "kept"), [("1", "L"), ("I;16", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("RGBA", "RGB")]
)
def test_any_mode_that_encode_takes_is_saved(mode: str, kept: str) -> None:
    opaque = Image.linear_gradient("L").convert(mode)
    with Image.open(io.BytesIO(saved(opaque))) as opened:
        assert opened.mode == kept


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"quality": 75}, ValueError, "quality 75 is outside 1…6"),
        ({"quality": "keep"}, ValueError, "quality"),
        ({"model": "jpeg"}, ValueError, "unknown model"),
        ({"limits": stfcodec.Limits(pixels=64)}, OSError, "over the limit of 64"),
        ({"target": stfcodec.Target("size", 9)}, OSError, "cannot be had"),
    ],
)
def test_a_failed_save_leaves_no_file(
    image: Image.Image, tmp_path: Path, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        image.save(tmp_path / "a.stf", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_replaces_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.stf"
    path.write_bytes(FULL.read_bytes())
    with Image.open(path) as image:
        before = image.info.copy()
        image.save(path, quality=2)
    after = info_of(path.read_bytes())
    assert after == before | {"quality": 2.0, "model": "wacnn-lite"}


def test_of_several_frames_the_current_one_is_saved(tmp_path: Path) -> None:
    frames = [Image.new("L", (40, 40), level) for level in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as film:
        film.seek(1)
        data = saved(film)
        with pytest.raises(ValueError, match="holds one picture"):
            film.save(io.BytesIO(), "STF", save_all=True)
    assert stfcodec.decode(data).convert("L").getpixel((20, 20)) > 240  # type: ignore[operator]


def test_grey_with_alpha_is_la() -> None:
    image = Image.merge("LA", [Image.linear_gradient("L"), Image.radial_gradient("L")])
    with Image.open(io.BytesIO(saved(image))) as opened:
        assert opened.mode == "LA"
        assert opened.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_a_resolution_is_known_before_decoding(image: Image.Image) -> None:
    assert info_of(saved(image, dpi=(300, 150)))["dpi"] == (300, 150)


# Metadata -----------------------------------------------------------------------------------------


def test_metadata_are_kept_unless_arguments_say_otherwise(image: Image.Image) -> None:
    with Image.open(FULL) as full:
        kept = {name: full.info[name] for name in METADATA if name in full.info}
    image.info.update(kept)
    assert {name: info_of(saved(image))[name] for name in kept} == kept
    without = info_of(saved(image, icc_profile=None, exif=b"", xmp=None, dpi=None))
    assert not set(METADATA) & set(without)
    assert image.info == kept, "the image of the caller has changed"
    assert info_of(saved(image, xmp=XMP)) | kept | {"xmp": XMP} == info_of(saved(image, xmp=XMP))
    assert not set(METADATA) & set(info_of(saved(image, strip=True)))


def test_metadata_come_as_arguments(image: Image.Image) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Cam"
    for block in (exif, exif.tobytes(), exif.tobytes().removeprefix(b"Exif\0\0")):
        info = info_of(saved(image, icc_profile=profile, exif=block, xmp=XMP.decode()))
        assert (info["icc_profile"], info["xmp"]) == (profile, XMP)
        assert info["exif"] == exif.tobytes()


def test_an_orientation_turns_the_pixels(image: Image.Image) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(io.BytesIO(saved(image, exif=exif))) as turned:
        assert turned.size == (40, 48)
        assert not turned.getexif()


def test_transparency_that_is_no_channel_is_kept(image: Image.Image) -> None:
    palette = image.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    for options in ({}, {"xmp": XMP}):
        with Image.open(io.BytesIO(saved(palette, **options))) as opened:
            assert opened.mode == "RGBA"


# imageio ------------------------------------------------------------------------------------------


def test_imageio_reads_and_writes_streams(tmp_path: Path) -> None:
    iio = pytest.importorskip("imageio.v3")
    import stfcodec.imageio_plugin

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert iio.improps(FULL).shape == (50, 70, 3)
        assert iio.immeta(FULL)["quality"] == 3.5
        pixels = iio.imread(FULL)
        assert pixels.tobytes() == stfcodec.decode(FULL).tobytes()
        iio.imwrite(tmp_path / "a.stf", pixels, quality=2)
        assert iio.immeta(tmp_path / "a.stf")["quality"] == 2
        data = iio.imwrite("<bytes>", pixels, extension=".stf")
        assert iio.imread(data).shape == pixels.shape
