"""The log of a training run: `log.csv`, and `loss.png`, a plot of its columns over time."""

from __future__ import annotations

import csv
from pathlib import Path

LOG, LOSS_PLOT = "log.csv", "loss.png"

_SMOOTHING_ROWS = 15
"""Rows averaged in one point of a line. Single rows are noisy because qualities are random."""


def append_row(path: Path, row: dict[str, object]) -> None:
    """Append a row, column name to value, to a CSV file; a new file gets a header."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def plot_log(log: Path, output: Path) -> bool:
    """Plot loss, rate, distortion and learning rate of a log into a PNG.

    Returns False, and writes nothing, if matplotlib is not installed.
    """
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
        ax.plot(minutes, _moving_average(values), color="#1f5fa8")
        ax.set_ylabel(f"{name}\n{unit}".strip())
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("minutes")
    figure.savefig(output, dpi=100)
    return True


def _moving_average(values: list[float]) -> list[float]:
    """Means over centred windows, which shrink towards both ends."""
    averages = []
    for i in range(len(values)):
        reach = min(_SMOOTHING_ROWS // 2, i, len(values) - 1 - i)
        window = values[i - reach : i + reach + 1]
        averages.append(sum(window) / len(window))
    return averages
