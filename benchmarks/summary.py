"""Summary of a record: for each coder, BD-rates over a common range and median times."""

from __future__ import annotations

import math
from statistics import median
from typing import Any, NamedTuple

from benchmarks.coders import JPEG_444
from stfcodec.metrics import Curve, bd_rate, common_range, ms_ssim_db


class Metric(NamedTuple):
    """A measure of distortion: its name, and the unit that follows a value, with its space."""

    name: str
    unit: str


METRICS = {
    "psnr": Metric("PSNR", " dB"),
    "ms_ssim": Metric("MS-SSIM", " dB"),
    "ssimulacra2": Metric("SSIMULACRA2", ""),
}
"""What BD-rates are taken over, by its key in a record's points."""


class Row(NamedTuple):
    """A row of the comparison table: one coder.

    BD-rates by metric are in percent against JPEG 4:4:4 of the same run; one is missing if the
    ranges do not allow it. Times are seconds per megapixel, the median over the coder's qualities.
    """

    name: str
    ours: bool
    bd_rates: dict[str, float]
    encode: float
    decode: float


class Summary(NamedTuple):
    """Rows, the best BD-rate over PSNR first, and what the BD-rates are averaged over.

    `ranges` has every metric that was measured; None if the coders share no range.
    """

    rows: list[Row]
    ranges: dict[str, tuple[float, float] | None]


def summarise(record: dict[str, Any]) -> Summary:
    """The summary of a record of `record.measure`."""
    coders = record["coders"]
    found = {
        metric: _bd_rates({c["name"]: curve(c, metric) for c in coders})
        for metric in METRICS
        if any(curve(c, metric) for c in coders)
    }
    rows = [
        Row(
            name=c["name"],
            ours=c["ours"],
            bd_rates={m: rates[c["name"]] for m, (_, rates) in found.items() if c["name"] in rates},
            encode=median_time(c, "encode"),
            decode=median_time(c, "decode"),
        )
        for c in coders
    ]
    rows.sort(key=lambda r: r.bd_rates.get("psnr", math.inf))
    return Summary(rows, {metric: over for metric, (over, _) in found.items()})


def curve(coder: dict[str, Any], metric: str) -> list[tuple[float, float]]:
    """(bpp, quality) points of a record's coder by one of METRICS; empty if it was not measured.

    PSNR and MS-SSIM are in dB. Records of version 0.3.0 have no SSIMULACRA2.
    """
    points = [(p["bpp"], p[metric]) for p in coder["points"] if p.get(metric) is not None]
    return [(bpp, ms_ssim_db(v)) for bpp, v in points] if metric == "ms_ssim" else points


def median_time(coder: dict[str, Any], direction: str) -> float:
    """Seconds per megapixel of "encode" or "decode", the median over a coder's qualities."""
    return float(median(p[f"{direction}_s_per_mp"] for p in coder["points"]))


def _bd_rates(curves: dict[str, Curve]) -> tuple[tuple[float, float] | None, dict[str, float]]:
    curves = {name: c for name, c in curves.items() if len(c) > 1}
    try:
        over = common_range(list(curves.values()))
        anchor = curves[JPEG_444.name]
    except (ValueError, KeyError):
        return None, {}
    return over, {name: round(bd_rate(anchor, c, over), 1) for name, c in curves.items()}
