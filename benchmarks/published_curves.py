"""Rate-distortion curves on the 24 Kodak pictures that others published.

`make bench` draws them beside the curves that it measures.
"""

from __future__ import annotations

from typing import NamedTuple


class PublishedCurve(NamedTuple):
    """(bpp, PSNR in dB) points, and where they are published."""

    source: str
    points: tuple[tuple[float, float], ...]


KODAK = {
    "WACNN": PublishedCurve(
        "github.com/Googolxx/STF, results/cnn_mse_Kodak.json",
        ((0.127, 29.22), (0.199, 30.59), (0.309, 32.26), (0.449, 34.15), (0.649, 35.91),
         (0.895, 37.72)),
    ),
    "STF": PublishedCurve(
        "github.com/Googolxx/STF, results/stf_mse_Kodak.json",
        ((0.124, 29.14), (0.191, 30.50), (0.298, 32.15), (0.441, 33.97), (0.651, 35.82),
         (0.903, 37.72)),
    ),
    "VTM": PublishedCurve(
        "github.com/InterDigitalInc/CompressAI, results/image/kodak/vtm.json",
        ((0.04824, 26.145), (0.11250, 28.493), (0.24582, 31.200), (0.49055, 34.262),
         (0.87481, 37.420), (1.43085, 40.424), (2.32461, 43.506)),
    ),
}  # fmt: skip
