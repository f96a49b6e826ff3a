"""Summary of a record: for each coder, BD-rates over a common range and median times."""

from __future__ import annotations

import math
from statistics import median
from typing import Any, NamedTuple

from benchmarks.coders import JPEG_444
from stfcodec.metrics import Curve, bd_rate, common_range, ms_ssim_db


class Row(NamedTuple):
    """A row of the comparison table: one coder.

    BD-rates are in percent against JPEG 4:4:4 of the same run; None if the ranges do not allow one.
    Times are seconds per megapixel, the median over the coder's qualities.
    """

    name: str
    ours: bool
    bd_psnr: float | None
    bd_ms_ssim: float | None
    encode: float
    decode: float


class Summary(NamedTuple):
    """Rows, the best BD-rate first, and the ranges in dB over which the BD-rates are averaged."""

    rows: list[Row]
    psnr: tuple[float, float] | None
    ms_ssim: tuple[float, float] | None


def summarise(record: dict[str, Any]) -> Summary:
    """The summary of a record of `record.measure`."""
    coders = record["coders"]
    psnr_range, psnr_rates = _bd_rates({c["name"]: curve(c, "psnr") for c in coders})
    ms_ssim_range, ms_ssim_rates = _bd_rates({c["name"]: curve(c, "ms_ssim") for c in coders})
    rows = [
        Row(
            name=c["name"],
            ours=c["ours"],
            bd_psnr=psnr_rates.get(c["name"]),
            bd_ms_ssim=ms_ssim_rates.get(c["name"]),
            encode=median_time(c, "encode"),
            decode=median_time(c, "decode"),
        )
        for c in coders
    ]
    rows.sort(key=lambda r: math.inf if r.bd_psnr is None else r.bd_psnr)
    return Summary(rows, psnr_range, ms_ssim_range)


def curve(coder: dict[str, Any], metric: str) -> list[tuple[float, float]]:
    """(bpp, dB) points of a record's coder by "psnr" or "ms_ssim"; empty if it was not measured."""
    points = [(p["bpp"], p[metric]) for p in coder["points"] if p[metric] is not None]
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
