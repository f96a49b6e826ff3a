"""PSNR and BD-rate against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stfcodec.metrics import bd_rate, ms_ssim, ms_ssim_db, psnr


def test_psnr() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    assert psnr(a, a) == math.inf
    assert psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(a, a + 255) == pytest.approx(0)


def test_bd_rate_of_a_scaled_curve() -> None:
    curve = [(0.1, 28.0), (0.2, 30.5), (0.45, 33.0), (0.9, 36.2), (1.5, 38.0)]
    half = [(r / 2, q) for r, q in curve]
    assert bd_rate(curve, curve) == pytest.approx(0)
    assert bd_rate(curve, half) == pytest.approx(-50)
    assert bd_rate(half, curve) == pytest.approx(100)


def test_bd_rate_needs_a_common_range() -> None:
    with pytest.raises(ValueError, match="no range of quality"):
        bd_rate([(0.1, 20), (0.2, 25)], [(0.1, 30), (0.2, 35)])


def test_bd_rate_over_a_part_of_the_range() -> None:
    curve = [(0.1 * 2**i, 20.0 + 4 * i) for i in range(8)]
    dearer_above_32 = [(r if q <= 32 else 2 * r, q) for r, q in curve]
    assert bd_rate(curve, dearer_above_32, over=(20, 28)) == pytest.approx(0)
    assert bd_rate(curve, dearer_above_32, over=(40, 48)) == pytest.approx(100)
    with pytest.raises(ValueError, match="reach into"):
        bd_rate(curve, curve, over=(50, 60))


def test_ms_ssim_follows_its_definition() -> None:
    """Wang et al. (2003), written out: contrast and structure at five scales, luminance at the
    last, Gaussian windows of 11 and σ 1.5 without padding, mean over the channels."""
    pytest.importorskip("pytorch_msssim")
    y, x = np.mgrid[:180, :196]
    a = np.stack([(y * 3 + x) % 256, (x * 2 - y) % 256, (y * x // 40) % 256], 2).astype(np.uint8)
    noise = np.random.default_rng(0).integers(-20, 21, a.shape)
    b = np.clip(a.astype(int) // 8 * 8 + noise, 0, 255).astype(np.uint8)
    assert ms_ssim(a, b) == pytest.approx(
        np.mean([_ms_ssim(a[..., c], b[..., c]) for c in range(3)]), abs=1e-4
    )
    assert ms_ssim(a, a) == pytest.approx(1, abs=1e-6)
    assert ms_ssim(a[:160], b[:160]) is None
    assert ms_ssim_db(0.99) == pytest.approx(20)


def _ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    window = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blurred(p: np.ndarray) -> np.ndarray:
        rows = np.apply_along_axis(np.convolve, 0, p, window, "valid")
        return np.apply_along_axis(np.convolve, 1, rows, window, "valid")

    def halved(p: np.ndarray) -> np.ndarray:
        p = np.pad(p, [(n % 2, n % 2) for n in p.shape])  # as pytorch-msssim pools odd sides
        h, w = (n // 2 * 2 for n in p.shape)
        return p[:h, :w].reshape(h // 2, 2, w // 2, 2).mean((1, 3))

    a, b = a.astype(float), b.astype(float)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    result = 1.0
    for scale, power in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_a, mean_b = blurred(a), blurred(b)
        var_a, var_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
        contrast = (2 * (blurred(a * b) - mean_a * mean_b) + c2) / (var_a + var_b + c2)
        if scale == 4:
            contrast *= (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        result *= contrast.mean() ** power
        a, b = halved(a), halved(b)
    return result
