"""Distortion of pictures: PSNR, MS-SSIM, SSIMULACRA2. Rate-distortion curves: BD-rate."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two pictures of one shape, inf if they are equal.

    a, b: both uint8 or both uint16, whose peak is 65535. The error is the mean over all samples of
    all channels. Raises ValueError if heights or types differ.
    """
    if a.dtype != b.dtype:
        raise ValueError(f"{a.dtype} and {b.dtype} have different peaks")
    peak = np.iinfo(a.dtype).max
    # Integer sums row by row are exact and need the memory of one row.
    error = sum(int(np.square(x.astype(np.int64) - y).sum()) for x, y in zip(a, b, strict=True))
    return float(10 * np.log10(peak**2 * a.size / error)) if error else float("inf")


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float | None:
    """Multi-scale structural similarity (Wang et al., 2003) of two pictures (H, W, 3) uint8; 0…1.

    Five scales and the mean over the channels, as publications on learned codecs report it. None
    if a side has 160 pixels or fewer, which is too small for the fifth scale. Raises
    ModuleNotFoundError without pytorch-msssim.
    """
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    import torch
    from pytorch_msssim import ms_ssim as similarity

    x, y = (torch.from_numpy(p.astype(np.float32)).permute(2, 0, 1)[None] for p in (a, b))
    with torch.inference_mode():
        return float(similarity(x, y, data_range=255))


MS_SSIM_MIN_SIDE = (11 - 1) * 2**4 + 1
"""MS-SSIM's window of 11 pixels must fit into a picture that is halved four times."""


def ssimulacra2(a: np.ndarray, b: np.ndarray) -> float | None:
    """SSIMULACRA2 (Sneyers, 2022; version 2.1) of an sRGB source and a decoded picture, (H, W, 3)
    uint8; at most 100.

    It predicts how people rate a picture: 100 is equal to the source, 90 hardly told from it, 70
    high quality, 50 medium, 30 low; there is no lower limit. It takes seconds and half a gigabyte
    for a megapixel. None if a side has fewer than 225 pixels, which is too small for the sixth
    scale. Raises ModuleNotFoundError without ssimulacra2.
    """
    if min(a.shape[:2]) < SSIMULACRA2_MIN_SIDE:
        return None
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(_ppm(a), _ppm(b)))


SSIMULACRA2_MIN_SIDE = 7 * 2**5 + 1
"""A shorter side has fewer than 8 pixels after five halvings; the package then omits a scale."""


def _ppm(pixels: np.ndarray) -> io.BytesIO:
    """A picture as the file that the package asks for, uncompressed."""
    height, width = pixels.shape[:2]
    return io.BytesIO(b"P6 %d %d 255\n" % (width, height) + pixels.tobytes())


def ms_ssim_db(similarity: float) -> float:
    """MS-SSIM in dB, which spreads values close to 1: −10·log10(1 − MS-SSIM)."""
    return float(-10 * np.log10(1 - similarity))


Curve = Sequence[tuple[float, float]]
"""(bpp, quality in dB) points, in any order."""


def common_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """The range in dB that all curves cover. Raises ValueError if there is none."""
    low = max(min(quality for _, quality in c) for c in curves)
    high = min(max(quality for _, quality in c) for c in curves)
    if low >= high:
        raise ValueError("the curves share no range of quality")
    return low, high


def bd_rate(anchor: Curve, test: Curve, over: tuple[float, float] | None = None) -> float:
    """Bjøntegaard delta rate (VCEG-M33, 2001) in percent: bits that `test` needs beyond `anchor`.

    Log-rate as a function of PSNR (or of MS-SSIM in dB) is interpolated by PCHIP. Its difference is
    averaged over the range `over` in dB, by default all that both curves cover. Raises ValueError
    if that range is empty.
    """
    low, high = common_range([anchor, test])
    if over is not None:
        low, high = max(low, over[0]), min(high, over[1])
        if low >= high:
            raise ValueError("the curves do not reach into the range asked for")
    curves = [sorted((quality, np.log(rate)) for rate, quality in c) for c in (anchor, test)]
    grid = np.linspace(low, high, 1000)
    a, t = (_pchip(np.array(c), grid) for c in curves)
    gap = t - a
    return float(np.expm1((gap[1:] + gap[:-1]).mean() / 2) * 100)


def _pchip(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Monotone piecewise cubic Hermite interpolation (Fritsch & Butland, 1984)."""
    x, y = points[:, 0], points[:, 1]
    h, slope = np.diff(x), np.diff(y) / np.diff(x)
    d = np.empty_like(y)
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    same = slope[1:] * slope[:-1] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        d[1:-1] = np.where(same, (w1 + w2) / (w1 / slope[:-1] + w2 / slope[1:]), 0)
    d[0], d[-1] = _edge(h, slope), _edge(h[::-1], slope[::-1])
    i = np.clip(np.searchsorted(x, at) - 1, 0, len(h) - 1)
    t = (at - x[i]) / h[i]
    return (
        (1 + 2 * t) * (1 - t) ** 2 * y[i]
        + t * (1 - t) ** 2 * h[i] * d[i]
        + t**2 * (3 - 2 * t) * y[i + 1]
        + t**2 * (t - 1) * h[i] * d[i + 1]
    )


def _edge(h: np.ndarray, slope: np.ndarray) -> float:
    """Three-point derivative at an end, limited so that the curve stays monotone."""
    if len(h) == 1:
        return slope[0]
    d = ((2 * h[0] + h[1]) * slope[0] - h[0] * slope[1]) / (h[0] + h[1])
    if d * slope[0] <= 0:
        return 0.0
    if slope[0] * slope[1] <= 0 and abs(d) > 3 * abs(slope[0]):
        return 3 * slope[0]
    return d
