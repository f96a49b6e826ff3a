"""PSNR and BD-rate against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stfcodec.bench.metrics import bd_rate, psnr


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
