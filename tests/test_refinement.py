"""encode --effort: latents that cost less, in streams like any others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stfcodec
from stfcodec import api, refinement
from stfcodec.imageio import Picture
from stfcodec.metrics import psnr
from stfcodec.models import locate, registry, weights
from stfcodec.models.base import CompressionModel

PHOTOGRAPH = Path(__file__).resolve().parents[1] / "docs" / "images" / "kodim23.png"


def crop(height: int, width: int, top: int = 128, left: int = 192) -> np.ndarray:
    pixels = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    return pixels[top : top + height, left : left + width].copy()


def bits(pixels: np.ndarray, data: bytes, quality: float) -> float:
    """The loss of the paper from a real stream, in bits a pixel."""
    mse = 255**2 / 10 ** (psnr(pixels, np.asarray(stfcodec.decode(data))) / 10)
    area = pixels.shape[0] * pixels.shape[1]
    return registry.lambda_from_quality(quality) * mse + 8 * len(data) / area


def load(name: str) -> CompressionModel:
    info = registry.by_name(name)
    return weights.load(info, locate.find(info, 3)).requires_grad_(False)


@pytest.mark.parametrize(("model", "quality", "gain"), [
    ("wacnn-lite", 4, 0.002), ("wacnn-lite", 6, 0.015), ("stf-lite", 6, 0.01),
])  # fmt: skip
def test_effort_pays(model: str, quality: float, gain: float) -> None:
    pixels = crop(256, 256)
    plain = stfcodec.encode(pixels, model=model, quality=quality)
    refined = stfcodec.encode(pixels, model=model, quality=quality, effort=3)
    saved = bits(pixels, plain, quality) - bits(pixels, refined, quality)
    assert saved > gain * 8 * len(plain) / pixels[..., 0].size


def test_a_stream_is_the_same_every_time() -> None:
    pixels = crop(128, 192)
    assert stfcodec.encode(pixels, effort=2) == stfcodec.encode(pixels, effort=2)
    assert stfcodec.encode(pixels, effort=0) == stfcodec.encode(pixels)


def test_tiles_cover_the_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, quality = load("wacnn-lite"), 2.0
    monkeypatch.setattr(refinement, "CORE", 64)
    monkeypatch.setattr(refinement, "_refine_tile", lambda cost, y, kept, *_: y[(..., *kept)] + 1)
    pixels = torch.zeros(448, 512, 3, dtype=torch.uint8)
    y = torch.randn(1, 224, 28, 32)
    found = refinement.refine(model, pixels, (400, 500), y, quality, 1, torch.device("cpu"))
    gain, _ = model.gains(quality, y)
    torch.testing.assert_close(found * gain, y * gain + 1)


@pytest.mark.slow
def test_tiles_pay_nearly_as_much_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """In tiles an eighth as wide as in use, where most latents lie at an edge, more than half."""
    model, quality = load("wacnn-lite"), 5.0
    pixels = torch.from_numpy(crop(448, 448, 64))
    with torch.no_grad():
        y = model.analysis(pixels.permute(2, 0, 1)[None].float() / 255, quality)
    gain, inverse = model.gains(quality, y)
    cost = refinement._cost(model, pixels, inverse, quality)

    def saved() -> float:
        found = refinement.refine(model, pixels, (448, 448), y, quality, 3, torch.device("cpu"))
        with torch.no_grad():
            return float(cost(y * gain, torch.round) - cost(found * gain, torch.round))

    whole = saved()
    monkeypatch.setattr(refinement, "CORE", 128)
    assert saved() > whole / 2 > 0


def test_what_costs_more_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """With steps that overshoot, the latents stay as g_a gave them."""
    pixels = crop(128, 128)
    plain = stfcodec.encode(pixels)
    monkeypatch.setattr(refinement, "_STEP_SIZES", (10.0, 10.0))
    assert stfcodec.encode(pixels, effort=1) == plain


@pytest.mark.parametrize("size", [(1, 1), (65, 70), (7, 130)])
def test_any_size(size: tuple[int, int]) -> None:
    """What fills the picture up to multiples of 64 does not count, so nothing is spent on it."""
    pixels = crop(*size)
    plain, refined = (stfcodec.encode(pixels, quality=5, effort=effort) for effort in (0, 3))
    assert np.asarray(stfcodec.decode(refined)).shape == pixels.shape
    assert bits(pixels, refined, 5) < 1.01 * bits(pixels, plain, 5)


def test_planes_are_kept() -> None:
    grey = crop(48, 80)[..., :1].repeat(3, 2)
    alpha = np.arange(48 * 80, dtype=np.uint16).reshape(48, 80).astype(np.uint8)
    decoded = api.decode_picture(api.encode(Picture(grey, gray=True, alpha=alpha), effort=2))
    assert decoded.gray
    assert np.array_equal(decoded.alpha, alpha)
    assert psnr(grey, decoded.pixels) > 28


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_effort_pays_on_cuda() -> None:
    pixels = crop(256, 256)
    plain, refined = (stfcodec.encode(pixels, quality=5, device="cuda", effort=e) for e in (0, 3))
    assert bits(pixels, refined, 5) < 0.98 * bits(pixels, plain, 5)


def test_soft_rounding_becomes_rounding() -> None:
    x = torch.tensor([-1.0, -0.7, 0.0, 0.2, 0.8, 2.0])
    torch.testing.assert_close(refinement._soft_round(x, width=100.0), x, rtol=0, atol=1e-3)
    torch.testing.assert_close(refinement._soft_round(x, width=0.01), x.round(), rtol=0, atol=1e-6)
    for width in (refinement._FIRST_WIDTH, refinement._LAST_WIDTH):
        whole = torch.arange(-3.0, 4.0)
        torch.testing.assert_close(refinement._soft_round(whole, width), whole)


@pytest.mark.parametrize("effort", [-1, 2.5, 101])
def test_effort_is_checked(effort: float) -> None:
    with pytest.raises(stfcodec.UsageError, match="whole number in 0…100"):
        stfcodec.encode(crop(8, 8), effort=effort)  # type: ignore[arg-type]
