"""Pictures of 16 bits a channel: coded from all their bits, decoded to them, and written."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import images
import numpy as np
import pytest
from commands import Command, one_error
from photographs import crop as photograph
from PIL import Image
from reading import written

import stfcodec
from stfcodec import api, container
from stfcodec.errors import ImageError
from stfcodec.imageio import Picture, on_background, read_picture, to_8_bits, without_hidden_colours
from stfcodec.metrics import psnr
from stfcodec.rate_control import Target

_DOWN, _ACROSS = np.mgrid[:128, :192]
SKY = np.stack([_DOWN * 7 + _ACROSS * rise + 30_000 for rise in (9, 13, 20)], 2).astype(np.uint16)
"""16 of 255 levels from left to right, without noise that would hide steps."""

NOISE = np.random.default_rng(0).integers(0, 65536, (37, 53, 4)).astype(np.uint16)
"""Of every value, sizes that fill no strip."""


def steps(pixels: np.ndarray) -> float:
    """How often neighbouring values of a row differ, per row and channel."""
    return float(np.count_nonzero(np.diff(pixels, axis=1), axis=1).mean())


@pytest.mark.parametrize("model", ["wacnn-lite", "stf-lite"])
def test_gradients_do_not_band(model: str) -> None:
    data = api.encode(SKY, model=model, quality=5)
    assert stfcodec.info(data).bit_depth == 16
    deep, shallow = (api.decode_picture(data, depth=depth).pixels for depth in (None, 8))
    assert (deep.dtype, shallow.dtype) == (np.uint16, np.uint8)
    assert psnr(SKY, deep) > 0.5 + psnr(SKY, shallow * np.uint16(257)) > 50
    assert steps(deep) > 0.9 * SKY.shape[1] > 4 * steps(shallow)
    assert np.abs(deep / 257 - shallow).max() <= 0.51  # both round the same values


def test_8_bit_sources_may_be_decoded_to_16_bits() -> None:
    data = api.encode(to_8_bits(SKY), quality=5)
    assert stfcodec.info(data).bit_depth == 8
    assert api.decode_picture(data).pixels.dtype == np.uint8
    deep = api.decode_picture(data, depth=16).pixels
    assert deep.dtype == np.uint16 and steps(deep) > 0.9 * SKY.shape[1]


def test_symbols_do_not_depend_on_how_many_bits_hold_the_values() -> None:
    pixels = photograph((64, 96))
    wide = pixels * np.uint16(257)
    eight, sixteen = (api.encode(source, quality=4) for source in (pixels, wide))
    streams = [container.read(data) for data in (eight, sixteen)]
    assert replace(streams[1], header=streams[0].header) == streams[0]
    assert np.array_equal(np.asarray(stfcodec.decode(eight)), np.asarray(stfcodec.decode(sixteen)))


@pytest.mark.parametrize("effort", [0, 1])
def test_grey_effort_and_targets_in_16_bits(effort: int) -> None:
    grey = SKY[:64, :64, 0]
    data = api.encode(grey, quality=4, effort=effort)
    found = api.decode_picture(data)
    assert found.gray and found.pixels.dtype == np.uint16
    assert psnr(np.dstack([grey] * 3), found.pixels) > 45
    reached = api.encode(photograph((64, 64)) * np.uint16(257), target=Target("psnr", 36))
    source = photograph((64, 64)) * np.uint16(257)
    assert psnr(source, api.decode_picture(reached).pixels) >= 36


def test_hidden_colours_and_backgrounds_in_16_bits() -> None:
    alpha = np.full((128, 192), 255, np.uint8)
    alpha[:, 60:90] = 0
    alpha[:, 100] = 128
    picture = Picture(SKY, alpha=alpha)
    filled = without_hidden_colours(picture).pixels
    assert filled.dtype == np.uint16
    assert np.abs(filled[:, 60:90].astype(int) - SKY[:, 60:90]).max() < 1200  # not 0, not noise
    white = on_background(picture, "white").pixels
    assert white.dtype == np.uint16 and (white[:, 60:90] == 65535).all()
    expected = SKY[:, 100] * (128 / 255) + 65535 * (127 / 255)
    assert np.abs(white[:, 100] - expected).max() <= 0.51
    assert np.array_equal(white[:, :60], SKY[:, :60])


# Files


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_written_files_hold_all_bits(format: str, grey: bool, alpha: bool) -> None:
    pixels = NOISE[..., :1].repeat(3, axis=2) if grey else NOISE[..., :3]
    picture = Picture(pixels, gray=grey, alpha=to_8_bits(NOISE[..., 3]) if alpha else None)
    if alpha and format == "PPM":
        with pytest.raises(ImageError, match="no transparency"):
            written(picture, format)
        return
    found = read_picture(written(picture, format))
    assert np.array_equal(found.pixels, pixels) and found.notes == ()
    assert found.gray == (grey and (format, alpha) != ("TIFF", True))
    if alpha:
        assert np.array_equal(found.alpha, picture.alpha)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (3, 1), (600, 500)])
def test_png_of_every_size_against_pillow(size: tuple[int, int]) -> None:
    """Pillow reads 16-bit grey exactly."""
    grey = np.random.default_rng(1).integers(0, 65536, size).astype(np.uint16)
    grey[: size[0] // 2] = np.arange(size[1], dtype=np.uint16) * 91
    data = written(Picture(np.dstack([grey] * 3), gray=True), "PNG")
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.mode == "I;16" and np.array_equal(np.asarray(image), grey)


def test_png_filters_make_smooth_pictures_small() -> None:
    assert len(written(Picture(SKY), "PNG")) < SKY.nbytes / 20


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_metadata_beside_16_bits(format: str) -> None:
    exif = images.exif(1)
    picture = Picture(SKY, icc=images.srgb_profile(), exif=exif, xmp=b"<x:xmpmeta/>")
    data = written(picture, format)
    found = read_picture(data)
    assert np.array_equal(found.pixels, SKY)
    if format != "PPM":
        assert found.icc == picture.icc
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (192, 128) and image.mode == "RGB"


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP"])
def test_formats_of_8_bits_get_rounded_values(format: str) -> None:
    found = read_picture(written(Picture(SKY), format)).pixels
    assert found.dtype == np.uint8
    near = 4 if format == "JPEG" else 0
    assert np.abs(found.astype(int) - to_8_bits(SKY)).max() <= near


@pytest.mark.parametrize("wrong", [np.float32, np.int16, np.uint32])
def test_pictures_of_other_types_are_refused(wrong: type) -> None:
    with pytest.raises(ImageError, match="give uint8 or uint16"):
        api.encode(Picture(SKY.astype(wrong)))


def test_psnr_has_the_peak_of_the_type() -> None:
    a = np.full((4, 4, 3), 100, np.uint8)
    wide = a * np.uint16(257)
    assert psnr(a, a + np.uint8(1)) == pytest.approx(psnr(wide, wide + np.uint16(257)))
    with pytest.raises(ValueError, match="different peaks"):
        psnr(a, a.astype(np.uint16))


# The command line


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    path = tmp_path / "sky.png"
    path.write_bytes(written(Picture(SKY), "PNG"))
    return path


def test_16_bits_through_the_command_line(stf: Command, deep: Path) -> None:
    assert stf("encode", deep, "-q", "5").err.count("reduced") == 0
    assert b"16 bits a channel" in stf("info", deep.with_suffix(".stf")).out
    for options, dtype in (([], np.uint16), (["--depth", "8"], np.uint8)):
        out = deep.with_name("out.png")
        assert stf("decode", deep.with_suffix(".stf"), "-f", "-o", out, *options).code == 0
        assert read_picture(out).pixels.dtype == dtype
    assert stf("decode", deep.with_suffix(".stf"), "-o", deep.with_suffix(".jpg")).code == 0


def test_16_bits_in_a_format_of_8(stf: Command, deep: Path) -> None:
    assert stf("encode", deep).code == 0
    out = deep.with_suffix(".jpg")
    outcome = stf("decode", deep.with_suffix(".stf"), "-o", out, "--depth", "16")
    one_error(outcome, 2, "JPEG holds 8 bits a channel: for --depth 16 write PNG, TIFF, PPM")
    assert not out.exists()


def test_heatmap_over_a_deep_picture(stf: Command, deep: Path) -> None:
    assert stf("heatmap", deep, "-o", deep.with_name("map.png"), "--overlay").code == 0
