"""Files of a wanted size, pictures of a wanted PSNR."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stfcodec
from stfcodec import Target
from stfcodec.codec import codec_for
from stfcodec.imageio import Picture
from stfcodec.metrics import psnr
from stfcodec.models import registry
from stfcodec.rate_control import _crossing, encode_to_target

PHOTOGRAPH = Path(__file__).resolve().parents[1] / "docs" / "images" / "kodim23.png"


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))[128:320, 192:448].copy()


@pytest.mark.slow
@pytest.mark.parametrize("effort", [0, 1])
def test_sizes_are_kept_to_and_nearly_used(pixels: np.ndarray, effort: int) -> None:
    area = pixels.shape[0] * pixels.shape[1]
    low, high = (len(stfcodec.encode(pixels, quality=q, effort=effort)) for q in (1, 6))
    for wanted in (int(math.sqrt(low * high)), high - 100):
        sizes = [
            len(stfcodec.encode(pixels, effort=effort, target=target))
            for target in (Target("size", wanted), Target("bpp", 8 * wanted / area))
        ]
        assert all(0.99 * wanted <= size <= wanted for size in sizes)


def test_psnr_is_reached_and_no_more(pixels: np.ndarray) -> None:
    for wanted in (32.0, 34.5):
        decoded = stfcodec.decode(stfcodec.encode(pixels, target=Target("psnr", wanted)))
        assert wanted <= psnr(pixels, np.asarray(decoded)) < wanted + 0.05


def test_metadata_and_alpha_count(pixels: np.ndarray) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, pixels.shape[:2], dtype=np.uint8)
    picture = Picture(pixels, alpha=alpha, exif=b"MM\0*" + bytes(900))
    plain = len(stfcodec.encode(picture, quality=3))
    data = stfcodec.encode(picture, target=Target("size", plain))
    assert 0.99 * plain <= len(data) <= plain
    assert np.array_equal(np.asarray(stfcodec.decode(data))[..., 3], alpha)


def test_what_every_quality_does_is_done_by_the_best(pixels: np.ndarray) -> None:
    roomy = stfcodec.encode(pixels, target=Target("size", 10**6))
    modest = stfcodec.encode(pixels, target=Target("psnr", 5))
    assert (stfcodec.info(roomy).quality, stfcodec.info(modest).quality) == (6, 1)


def test_what_no_quality_does_is_an_error(pixels: np.ndarray) -> None:
    with pytest.raises(stfcodec.StfError, match=r"quality 1 makes it \d+ bytes, 99 bytes cannot"):
        stfcodec.encode(pixels, target=Target("size", 99))
    with pytest.raises(stfcodec.StfError, match=r"quality 6 makes it .* dB, 70 dB cannot be had"):
        stfcodec.encode(pixels, target=Target("psnr", 70))


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_targets_are_positive(value: float) -> None:
    with pytest.raises(stfcodec.UsageError, match="not a positive number"):
        Target("bpp", value)


def test_models_of_whole_qualities_have_no_targets(pixels: np.ndarray) -> None:
    codec = codec_for(registry.by_name("wacnn-lite"), 3)
    whole = type(codec)(registry.by_name("wacnn"), codec.model, codec.device)
    with pytest.raises(stfcodec.UsageError, match="give one with -q"):
        encode_to_target(whole, Picture(pixels), Target("psnr", 30))


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("wanted", [1.01, 2.0, 20.0, 35.9])
def test_crossings_are_found_in_few_tries(wanted: float, below: bool) -> None:
    tried = []

    def square(quality: float) -> float:
        tried.append(quality)
        return quality * quality

    found = _crossing(square, wanted, below, tolerance=0.05)
    assert found in tried
    assert len(tried) <= 9
    assert -0.05 <= (found**2 - wanted) * (1 if below else -1) <= 0


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("height", [0.0, 0.01, 1.0, 10.0])
def test_the_search_ends_whatever_levels_do(height: float, below: bool) -> None:
    """Small pictures' sizes jump and fall: random curves of levels with one step in them."""
    rng = np.random.default_rng(0)
    tried: list[float] = []

    def level(quality: float) -> float:
        tried.append(quality)
        assert len(tried) < 100
        return height * noise[round(1000 * quality)] + (quality >= 3.3717)

    for trial in range(40):
        noise, tried[:] = rng.random(6001), []
        found = _crossing(level, 0.4 + trial / 200, below, tolerance=1e-9)
        assert found is None or found in tried
        if height == 0:
            assert found in ((3.371, 3.37) if below else (3.372, 3.373))


def test_pictures_that_come_back_exactly_end_the_search() -> None:
    flat, refusals = np.full((5, 7, 3), 128, np.uint8), []
    for wanted in (20, 48.1, 60):
        try:
            data = stfcodec.encode(flat, target=Target("psnr", wanted))
        except stfcodec.StfError as error:
            refusals.append(str(error))
        else:
            assert psnr(flat, np.asarray(stfcodec.decode(data))) >= wanted
    assert all("cannot be had" in refusal for refusal in refusals)
