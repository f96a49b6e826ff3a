"""The plots of the main benchmark: rate-distortion curves, and coding times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from benchmarks.markdown import signed
from benchmarks.summary import Row, curve

_OURS = {"wacnn-lite": "#0b5fc0", "stf-lite": "#d2491f"}
_ANOTHER_OF_OURS = "#1b7f3b"
_OTHERS = {
    "JPEG 4:4:4": ("#8a8a8a", "-"),
    "JPEG 4:2:0": ("#8a8a8a", "--"),
    "WebP": ("#9c6f19", "-"),
    "AVIF": ("#7a4fa3", "--"),
    "AVIF psnr": ("#7a4fa3", "-"),
    "AVIF psnr slow": ("#7a4fa3", "-."),
    "JPEG 2000": ("#3d8f8f", "-"),
    "JPEG XL": ("#b04a7a", "-"),
}
_LABELS = {
    "psnr": "PSNR, dB",
    "ms_ssim": "MS-SSIM, −10·log₁₀(1 − MS-SSIM), dB",
    "ssimulacra2": "SSIMULACRA2",
}
_PUBLISHED = ("#b5b5b5", ":")
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.axisbelow": True,
    "figure.dpi": 110,
}


class _Line(NamedTuple):
    name: str
    points: list[tuple[float, float]]
    color: str
    style: str
    width: float
    ours: bool


def rate_distortion(record: dict[str, Any], path: Path) -> None:
    """Write each metric that was measured against bits per pixel; our models are drawn on top."""
    panels = {
        label: lines for metric, label in _LABELS.items() if (lines := _lines(record, metric))
    }
    with plt.rc_context(STYLE):
        size = (1 + 5 * len(panels), 6.2)
        fig, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
        for ax, (label, lines) in zip(axes[0], panels.items(), strict=True):
            _curves(ax, lines)
            ax.set_xlabel("bits per pixel")
            ax.set_title(label, loc="left", fontsize=11)
        pictures = record["pictures"]
        fig.suptitle(
            f"Rate and distortion, mean of {pictures['count']} pictures of {pictures['folder']}",
            x=0.01,
            ha="left",
            fontweight="bold",
        )
        fig.savefig(path)
        plt.close(fig)


def times(rows: Sequence[Row], path: Path) -> None:
    """Write seconds per megapixel of both directions, coders in the order of the rows."""
    with plt.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(9, 1.4 + 0.42 * len(rows)), layout="constrained")
        low = min(min(r.encode, r.decode) for r in rows)
        high = max(max(r.encode, r.decode) for r in rows)
        for y, row in enumerate(rows):
            color = _our_color(row.name) if row.ours else "#777777"
            ax.plot([row.encode, row.decode], [y, y], color=color, lw=2, alpha=0.35, zorder=1)
            ax.scatter(row.encode, y, s=58, color=color, zorder=3)
            ax.scatter(row.decode, y, s=58, facecolor="white", edgecolor=color, lw=1.8, zorder=2)
            first, last = sorted((row.encode, row.decode))
            if last < 1.6 * first:
                _beside(ax, f"{_digits(row.encode)} / {_digits(row.decode)}", last, y, color)
            else:
                _beside(ax, _digits(last), last, y, color)
                _beside(ax, _digits(first), first, y, color, left=True)
        ax.set_yticks(range(len(rows)), [_row_label(r) for r in rows])
        for label, row in zip(ax.get_yticklabels(), rows, strict=True):
            label.set_fontweight("bold" if row.ours else "normal")
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.set_xscale("log")
        ax.set_xlim(low / 2.2, high * 2.2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("seconds per megapixel (filled: encode, hollow: decode)")
        ax.set_title("Coding time; best BD-rate on top", loc="left", fontweight="bold")
        fig.savefig(path)
        plt.close(fig)


def _beside(ax: Axes, text: str, x: float, y: float, color: str, left: bool = False) -> None:
    ax.annotate(
        text,
        (x, y),
        (-9 if left else 9, 0),
        textcoords="offset points",
        va="center",
        ha="right" if left else "left",
        color=color,
    )


def _digits(value: float) -> str:
    """Two significant digits, trailing zeros included."""
    return f"{value:#.2g}".removesuffix(".")


def _row_label(row: Row) -> str:
    if "psnr" not in row.bd_rates:
        return row.name
    return f"{row.name}   {signed(row.bd_rates['psnr'], 0)} %"


def _our_color(name: str) -> str:
    """The colour of a model, whatever its effort."""
    return _OURS.get(name.partition(" ")[0], _ANOTHER_OF_OURS)


def _lines(record: dict[str, Any], metric: str) -> list[_Line]:
    """The curves of a record by one of METRICS."""
    lines = []
    for coder in record["coders"]:
        points = curve(coder, metric)
        if not points:
            continue
        if coder["ours"]:
            style = "--" if coder["effort"] else "-"
            color = _our_color(coder["name"])
            lines.append(_Line(coder["name"], points, color, style, 2.8, True))
        else:
            color, style = _OTHERS.get(coder["name"], ("#777777", "-"))
            lines.append(_Line(coder["name"], points, color, style, 1.4, False))
    if metric == "psnr":
        for name, published in record["published_curves"].items():
            points = [(bpp, psnr) for bpp, psnr in published["points"]]
            lines.append(_Line(f"{name}, published", points, *_PUBLISHED, 1.6, False))
    return lines


def _curves(ax: Axes, lines: list[_Line]) -> None:
    # The frame shows our own range, and some room above our highest rate and below our lowest
    # quality.
    main = [p for line in lines if line.ours for p in line.points] or lines[0].points
    right = 1.4 * max(bpp for bpp, _ in main)
    ends = [(_end(line.points, right), line) for line in lines]
    ax.set_xlim(0, right)
    lowest, highest = min(quality for _, quality in main), max(y for (_, y), _ in ends)
    ax.set_ylim(lowest - 0.25 * (highest - lowest), highest + 0.04 * (highest - lowest))
    for _, line in ends:
        x, y = zip(*line.points, strict=True)
        ax.plot(
            x,
            y,
            line.style,
            color=line.color,
            lw=line.width,
            marker="o" if line.ours else "",
            ms=5.5,
            zorder=3 if line.ours else 2,
        )
    # The name of a curve stands where it leaves the frame, or where it ends.
    edge = 0.9 * right
    _label(ax, [((right, y), line) for (x, y), line in ends if x >= edge])
    inside = [end for end in ends if end[0][0] < edge]
    _label(ax, [end for end in inside if end[1].style != ":"])
    _label(ax, [end for end in inside if end[1].style == ":"], left=True)


def _end(points: list[tuple[float, float]], right: float) -> tuple[float, float]:
    """The point where a curve leaves the frame on the right, or its last one."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > right:
            return right, y0 + (right - x0) / (x1 - x0) * (y1 - y0)
    return points[-1]


def _label(ax: Axes, ends: list[tuple[tuple[float, float], _Line]], left: bool = False) -> None:
    """Write names to the right (or left and above) of the ends of curves, without overlap."""
    bottom, top = ax.get_ylim()
    gap = (top - bottom) * 0.037
    ends = sorted(ends, key=lambda end: end[0][1])
    heights = _spread([y for (_, y), _ in ends], gap)
    # A crowd at the top stays below the frame's edge.
    heights = [min(y, top - i * gap) for i, y in enumerate(reversed(heights))][::-1]
    for ((x, _), line), height in zip(ends, heights, strict=True):
        ax.annotate(
            line.name,
            (x, height),
            (-6, 14) if left else (8, 0),
            textcoords="offset points",
            va="center",
            ha="right" if left else "left",
            color=line.color if line.style != ":" else "#808080",
            fontweight="bold" if line.ours else "normal",
            annotation_clip=False,
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=5,
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Rising heights, moved just enough to be `gap` apart; crowded ones keep their mean."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], gap) - _top(groups[-2], gap) < gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_bottom(group, gap) + i * gap for group in groups for i in range(len(group))]


def _bottom(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def _top(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) + gap * (len(group) - 1) / 2
