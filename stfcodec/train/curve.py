"""A run's log as a picture: loss, rate and distortion over time."""

from __future__ import annotations

import csv
from pathlib import Path

_SMOOTH = 15
"""Rows of the log in one point of the line: rows alone are noisy, qualities being random."""


def draw(log: Path, to: Path) -> bool:
    """Plots log.csv into a PNG. False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    minutes = [float(row["minutes"]) for row in rows]
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    for ax, (name, unit) in zip(
        axes,
        (("loss", "λ·255²·MSE + bpp"), ("bpp", "bits a pixel"), ("psnr", "dB"), ("rate", "")),
        strict=True,
    ):
        values = [float(row[name]) for row in rows]
        ax.plot(minutes, values, ".", color="#c8c8c8", markersize=3)
        ax.plot(minutes, _smooth(values), color="#1f5fa8")
        ax.set_ylabel(f"{name}\n{unit}".strip())
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("minutes")
    figure.savefig(to, dpi=100)
    return True


def _smooth(values: list[float]) -> list[float]:
    """Each value's mean with its neighbours, as many on either side as there are."""
    half = _SMOOTH // 2
    out = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        part = values[i - reach : i + reach + 1]
        out.append(sum(part) / len(part))
    return out
