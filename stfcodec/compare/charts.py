"""Rate-distortion curves as charts: where lines, points, ticks and names lie, in SVG units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stfcodec import metrics
from stfcodec.compare.results import Scores
from stfcodec.compare.summary import Row

WIDTH, HEIGHT = 440, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 96, 12, 40
_LINE_HEIGHT = 15
"""Smallest distance between two names."""
_TICKS = 5
"""Wanted number of ticks on an axis."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where it is, and its text."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """One operating point of a codec."""

    x: float
    y: float
    index: int
    """Number of the operating point."""
    text: str


@dataclass(frozen=True)
class Line:
    """The curve of one codec, and where its name stands."""

    codec: str
    marks: tuple[Mark, ...]
    name_x: float
    name_y: float


@dataclass(frozen=True)
class Chart:
    """One metric against bits per pixel."""

    title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]

    @property
    def description(self) -> str:
        """The chart in a sentence, for those who do not see it."""
        ends = (
            f"{line.codec} from {line.marks[0].text} to {line.marks[-1].text}"
            for line in self.lines
        )
        return f"{self.title} against bits per pixel: {'; '.join(ends)}."

    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM
    """Edges of the plot."""
    width, height = WIDTH, HEIGHT


def _decibels(ms_ssim: float | None) -> float | None:
    return None if ms_ssim is None or ms_ssim >= 1 else metrics.ms_ssim_db(ms_ssim)


_METRICS: tuple[tuple[str, Callable[[Scores], float | None], str], ...] = (
    ("PSNR in dB", lambda scores: scores.psnr, "{:.2f} dB"),
    ("MS-SSIM in dB", lambda scores: _decibels(scores.ms_ssim), "{:.2f} dB"),
    ("SSIMULACRA2", lambda scores: scores.ssimulacra2, "{:.1f}"),
)


def charts(points: Sequence[Sequence[Row]]) -> list[Chart]:
    """A chart for each metric that was measured. points: the rows of each operating point."""
    found = []
    for title, metric, form in _METRICS:
        curves: dict[str, list[tuple[float, float, int]]] = {}
        for index, rows in enumerate(points):
            for row in rows:
                value = metric(row.scores)
                if value is not None and math.isfinite(value):
                    curves.setdefault(row.codec, []).append((row.bpp, value, index))
        if curves:
            found.append(_chart(title, curves, form))
    return found


def _chart(title: str, curves: dict[str, list[tuple[float, float, int]]], form: str) -> Chart:
    """curves: bpp, value of the metric and number of each operating point, by codec."""
    every = [point for curve in curves.values() for point in curve]
    x_ticks = ticks(0, max(bpp for bpp, _, _ in every))
    y_ticks = ticks(min(value for _, value, _ in every), max(value for _, value, _ in every))
    x = _scale(x_ticks, Chart.left, Chart.right)
    y = _scale(y_ticks, Chart.bottom, Chart.top)
    lines = {
        codec: tuple(
            Mark(x(bpp), y(value), n, f"{form.format(value)} at {bpp:.3f} bpp")
            for bpp, value, n in sorted(curve)
        )
        for codec, curve in curves.items()
    }
    heights = _spread({codec: marks[-1].y for codec, marks in lines.items()})
    return Chart(
        title,
        tuple(Tick(x(value), f"{value:g}") for value in x_ticks),
        tuple(Tick(y(value), f"{value:g}") for value in y_ticks),
        tuple(
            Line(codec, marks, marks[-1].x + 9, heights[codec]) for codec, marks in lines.items()
        ),
    )


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    # Equal values are apart from their ticks in the digits that these show.
    wanted = max((high - low) / _TICKS, 1e-3 * max(abs(high), 1))
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(first, max(last, first + 1) + 1)]


def _scale(ticks: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """A value's place between two edges of the plot."""
    low, high = ticks[0], ticks[-1]
    return lambda value: round(start + (end - start) * (value - low) / (high - low), 1)


def _spread(heights: dict[str, float]) -> dict[str, float]:
    """The heights of names, moved apart so that none covers another."""
    placed: dict[str, float] = {}
    above = -math.inf
    for codec, height in sorted(heights.items(), key=lambda item: item[1]):
        above = placed[codec] = max(height, above + _LINE_HEIGHT)
    over = above - (HEIGHT - _BOTTOM)
    return {codec: height - max(over, 0) for codec, height in placed.items()}
