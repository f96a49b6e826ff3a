"""The numbers of comparisons: rows of a table, means over pictures, and plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stfcodec.compare.results import Comparison, Point, Result, Scores
from stfcodec.errors import printable


@dataclass(frozen=True)
class Row:
    """What one codec does at one operating point, for one picture or in the mean of several."""

    codec: str
    ours: bool
    settings: str
    size: float
    relative_size: float
    """Size as a multiple of the first model's."""
    is_matched: bool
    """Whether it counts as of the same size."""
    bpp: float
    scores: Scores
    encode_seconds: float
    decode_seconds: float


def rows(point: Point) -> list[Row]:
    """One row for each codec of an operating point."""
    first = point.results[0].size
    return [
        Row(
            codec=result.codec,
            ours=result.ours,
            settings=result.settings,
            size=result.size,
            relative_size=result.size / first,
            is_matched=point.is_matched(result),
            bpp=result.bpp,
            scores=result.scores,
            encode_seconds=result.encode_seconds,
            decode_seconds=result.decode_seconds,
        )
        for result in point.results
    ]


@dataclass(frozen=True)
class Mean:
    """Means over pictures at one operating point."""

    quality: float
    rows: tuple[Row, ...]
    count: int
    """Pictures that count: those whose files all have the same size. Without any, no rows."""


def means(comparisons: Sequence[Comparison]) -> list[Mean]:
    """Means at each operating point, of the codecs that coded every picture that counts."""
    found = []
    for points in zip(*(comparison.points for comparison in comparisons), strict=True):
        counted = [rows(p) for p in points if all(p.is_matched(r) for r in p.results)]
        by_codec = [{row.codec: row for row in of_picture} for of_picture in counted]
        names = (
            [name for name in by_codec[0] if all(name in c for c in by_codec)] if counted else []
        )
        same = (_mean([codecs[name] for codecs in by_codec]) for name in names)
        found.append(Mean(points[0].quality, tuple(same), len(counted)))
    return found


def _mean(same: Sequence[Row]) -> Row:
    return Row(
        codec=same[0].codec,
        ours=same[0].ours,
        settings="",
        size=fmean(row.size for row in same),
        relative_size=fmean(row.relative_size for row in same),
        is_matched=True,
        bpp=fmean(row.bpp for row in same),
        scores=Scores(
            psnr=fmean(row.scores.psnr for row in same),
            ms_ssim=_optional_mean([row.scores.ms_ssim for row in same]),
            ssimulacra2=_optional_mean([row.scores.ssimulacra2 for row in same]),
        ),
        encode_seconds=fmean(row.encode_seconds for row in same),
        decode_seconds=fmean(row.decode_seconds for row in same),
    )


def _optional_mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return fmean(found) if len(found) == len(values) else None


HEADINGS = ("bytes", "size", "bpp", "PSNR", "MS-SSIM", "SSIMULACRA2", "encode s", "decode s")
"""Columns of `cells`. The size is a multiple of the first model's; PSNR is in dB."""


def cells(row: Row) -> list[str]:
    """A row as text, one cell for each of HEADINGS; "–" stands for what was not measured."""
    scores = row.scores
    return [
        f"{row.size:.0f}",
        f"{'' if row.is_matched else '≠ '}{row.relative_size:.2f}",
        f"{row.bpp:.3f}",
        _number(scores.psnr, 2),
        _number(scores.ms_ssim, 4),
        _number(scores.ssimulacra2, 1),
        f"{row.encode_seconds:.2f}",
        f"{row.decode_seconds:.2f}",
    ]


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else "∞"


def table(comparison: Comparison) -> list[str]:
    """The lines of a text table with every operating point of one picture."""
    lines = [_title(comparison)]
    for point in comparison.points:
        lines += ["", *_table(f"quality {point.quality:g}", rows(point))]
    return lines


def mean_table(comparisons: Sequence[Comparison]) -> list[str]:
    """As `table`, of the means over several pictures."""
    lines = [f"mean of {len(comparisons)} pictures, without those whose sizes differ"]
    for mean in means(comparisons):
        lines += ["", *_table(f"quality {mean.quality:g}, {mean.count}", mean.rows)]
    return lines


def _title(comparison: Comparison) -> str:
    c = comparison
    return f"{printable(c.name)}: {c.width}x{c.height}, {c.source_bytes} bytes"


def _table(title: str, found: Sequence[Row]) -> list[str]:
    table = [[title, *HEADINGS], *([row.codec, *cells(row)] for row in found)]
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    lines = []
    for first, *rest in table:
        padded = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    return lines


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The numbers as plain values for json.dumps. None stands for what was not measured, and for
    the PSNR of an equal picture."""
    return {
        "input": comparison.name,
        "input_bytes": comparison.source_bytes,
        "width": comparison.width,
        "height": comparison.height,
        "notes": list(comparison.notes),
        "points": [
            {
                "quality": point.quality,
                "results": [_result_to_json(point, result) for result in point.results],
            }
            for point in comparison.points
        ],
    }


def _result_to_json(point: Point, result: Result) -> dict[str, Any]:
    scores = result.scores
    return {
        "codec": result.codec,
        "settings": result.settings,
        "bytes": result.size,
        "bpp": round(result.bpp, 4),
        "matched": point.is_matched(result),
        "psnr": round(scores.psnr, 3) if math.isfinite(scores.psnr) else None,
        "ms_ssim": None if scores.ms_ssim is None else round(scores.ms_ssim, 5),
        "ssimulacra2": None if scores.ssimulacra2 is None else round(scores.ssimulacra2, 2),
        "encode_seconds": round(result.encode_seconds, 3),
        "decode_seconds": round(result.decode_seconds, 3),
    }
