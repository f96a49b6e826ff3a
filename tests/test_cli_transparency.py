"""stfcodec decode of transparent pictures, and --strip."""

from __future__ import annotations

from pathlib import Path

import images
import numpy as np
import pytest
from commands import Command, one_error
from PIL import Image, features

from stfcodec.formats import WRITABLE


@pytest.fixture
def transparent(stf: Command, tmp_path: Path) -> Path:
    """A stream of a picture whose upper half cannot be seen, with a profile."""
    pixels = np.full((34, 50, 4), (90, 120, 60, 255), np.uint8)
    pixels[:17, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "clear.png", icc_profile=b"profile" * 30)
    assert stf("encode", tmp_path / "clear.png", "--quiet").code == 0
    return tmp_path / "clear.stf"


def test_opaque_alpha_goes_into_every_format(stf: Command, tmp_path: Path) -> None:
    Image.new("RGBA", (64, 48), (90, 120, 60, 255)).save(tmp_path / "shot.png")
    assert stf("encode", tmp_path / "shot.png").code == 0
    for suffix in WRITABLE:
        assert stf("decode", tmp_path / "shot.stf", "-o", tmp_path / f"back{suffix}").code == 0


def test_transparency_needs_a_format_or_a_background(stf: Command, transparent: Path) -> None:
    target = transparent.with_suffix(".jpg")
    one_error(stf("decode", transparent, "-o", target), 3, "PNG", "WEBP", "TIFF", "--background")
    assert not target.exists()
    one_error(stf("decode", transparent, "-o", target, "--background", "rde"), 2, "#rrggbb")
    for colour, expected in (("tomato", (255, 99, 71)), ("#fff", (255, 255, 255))):
        assert stf("decode", transparent, "-f", "-o", target, "--background", colour).code == 0
        with Image.open(target) as image:
            difference = np.subtract(image.getpixel((9, 3)), expected)
            assert image.mode == "RGB" and np.abs(difference).max() <= 4
    png = transparent.with_name("flat.png")
    assert stf("decode", transparent, "-o", png, "--background", "black").code == 0
    with Image.open(png) as image:
        assert image.mode == "RGB" and image.getpixel((9, 3)) == (0, 0, 0)


def test_metadata_is_stripped_on_decoding(stf: Command, transparent: Path) -> None:
    target = transparent.with_name("b.png")
    for strip in ([], ["--strip"]):
        assert stf("decode", transparent, "-f", "-o", target, *strip).code == 0
        with Image.open(target) as image:
            assert ("icc_profile" in image.info) == (not strip) and image.mode == "RGBA"


@pytest.mark.skipif(not features.check("littlecms2"), reason="Pillow without littlecms2")
def test_stripping_a_profile_of_other_colours_is_said(stf: Command, tmp_path: Path) -> None:
    source = tmp_path / "linear.png"
    Image.new("RGB", (20, 16), "olive").save(source, icc_profile=images.rgb_profile(1.0))
    assert "taken for sRGB" in stf("encode", source, "--strip").err
    assert stf("encode", source, "-f", "--quiet").err == ""
    stripped = stf("decode", tmp_path / "linear.stf", "-f", "--strip")
    assert stripped.code == 0 and stripped.err.count("taken for sRGB") == 1
