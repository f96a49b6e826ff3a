"""From a benchmark's record to one row a coder: BD-rates over a common range, typical times."""

from __future__ import annotations

import math
from statistics import median
from typing import Any, NamedTuple

from benchmarks.coders import JPEG_444
from stfcodec.metrics import Curve, bd_rate, common_range, decibels


class Row(NamedTuple):
    """BD-rates in percent against JPEG 4:4:4 of the same run; None where not comparable.

    Times are seconds a megapixel, the median over a coder's qualities.
    """

    name: str
    ours: bool
    bd_psnr: float | None
    bd_ms_ssim: float | None
    encode: float
    decode: float


class Summary(NamedTuple):
    """Rows, the best BD-rate first, and the ranges in dB that the BD-rates are taken over."""

    rows: list[Row]
    psnr: tuple[float, float] | None
    ms_ssim: tuple[float, float] | None


def summarise(record: dict[str, Any]) -> Summary:
    coders = record["coders"]
    psnr_range, psnr_rates = _rates({c["name"]: _curve(c, "psnr") for c in coders})
    ms_ssim_range, ms_ssim_rates = _rates({c["name"]: _curve(c, "ms_ssim") for c in coders})
    rows = [
        Row(
            name=c["name"],
            ours=c["ours"],
            bd_psnr=psnr_rates.get(c["name"]),
            bd_ms_ssim=ms_ssim_rates.get(c["name"]),
            encode=median(p["encode_s_per_mp"] for p in c["points"]),
            decode=median(p["decode_s_per_mp"] for p in c["points"]),
        )
        for c in coders
    ]
    rows.sort(key=lambda r: math.inf if r.bd_psnr is None else r.bd_psnr)
    return Summary(rows, psnr_range, ms_ssim_range)


def signed(value: float, digits: int) -> str:
    """With a sign always, and a true minus."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def _curve(coder: dict[str, Any], quality: str) -> Curve:
    points = [(p["bpp"], p[quality]) for p in coder["points"] if p[quality] is not None]
    return [(b, decibels(q)) for b, q in points] if quality == "ms_ssim" else points


def _rates(curves: dict[str, Curve]) -> tuple[tuple[float, float] | None, dict[str, float]]:
    curves = {name: c for name, c in curves.items() if len(c) > 1}
    try:
        over = common_range(list(curves.values()))
        anchor = curves[JPEG_444.name]
    except (ValueError, KeyError):
        return None, {}
    return over, {name: round(bd_rate(anchor, c, over), 1) for name, c in curves.items()}
