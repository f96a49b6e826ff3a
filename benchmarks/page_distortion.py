"""The sections of the main benchmark's page on rate and distortion: a record as Markdown lines."""

from __future__ import annotations

from typing import Any

from benchmarks.coders import JPEG_444
from benchmarks.markdown import paragraph, signed, table
from benchmarks.summary import METRICS, Summary, curve
from stfcodec.metrics import Curve, bd_rate
from stfcodec.models.registry import DEFAULT_MODEL


def comparison(record: dict[str, Any], summary: Summary, folder: str) -> list[str]:
    """BD-rates and times of every coder, with the plots, which are in `folder`."""
    rows = (
        (
            f"**`{r.name}`**" if r.ours else r.name,
            *(_percent(r.bd_rates.get(metric)) for metric in summary.ranges),
            f"{r.encode:.3f}",
            f"{r.decode:.3f}",
        )
        for r in summary.rows
    )
    names = [METRICS[metric].name for metric in summary.ranges]
    rates = [f"BD-rate, {name}" for name in names]
    head = ["coder", *rates, "encode, s/MP", "decode, s/MP"]
    return [
        "## Against other codecs",
        "",
        f"![{', '.join(names)} against bits per pixel]({folder}/rate-distortion.png)",
        "",
        *_published_curves(record),
        *table(head, rows),
        "",
        *_ranges(summary),
        *paragraph(
            "Times are medians over pictures and qualities of library calls in one warmed-up "
            "process, from an array in memory to a file's bytes and back; every coder may use "
            "every core."
        ),
        "",
        f"![Coding time]({folder}/times.png)",
    ]


def _published_curves(record: dict[str, Any]) -> list[str]:
    if reason := record.get("published_left_out"):  # not in records of version 0.5.0
        return [*paragraph(f"Published curves are left out: {reason}."), ""]
    curves = record["published_curves"]
    if not curves:
        return []
    coders = {c["name"]: curve(c, "psnr") for c in record["coders"]}
    ours = [c["name"] for c in record["coders"] if c["ours"] and not c["effort"]]
    rows = [
        (
            name,
            _rate(coders.get(JPEG_444.name), published["points"]),
            *(_rate(published["points"], coders[model]) for model in ours),
            published["source"],
        )
        for name, published in curves.items()
    ]
    head = ["published curve", f"against {JPEG_444.name}", *(f"`{m}` against it" for m in ours)]
    return [
        *paragraph(
            "Published curves, not measured here: BD-rate over PSNR, over the range that the two "
            "curves of a cell cover, against JPEG 4:4:4 of this run, and of our models against the "
            "published curve."
        ),
        "",
        *table([*head, "source"], rows),
        "",
    ]


def _rate(anchor: Curve | None, test: Curve) -> str:
    """The BD-rate in percent, if both curves share a range."""
    try:
        return _percent(None if anchor is None else bd_rate(anchor, test))
    except ValueError:
        return _percent(None)


def _ranges(summary: Summary) -> list[str]:
    ranges = [
        f"{over[0]:.1f}–{over[1]:.1f}{METRICS[metric].unit} of {METRICS[metric].name}"
        for metric, over in summary.ranges.items()
        if over
    ]
    if not ranges:
        return []
    return [
        *paragraph(
            "BD-rate: how many more bits than JPEG 4:4:4 of this run a coder takes for the same "
            f"quality, averaged over the range that all coders cover ({', '.join(ranges)}); less "
            "is better. The BD-rate in docs/models.md is averaged over the model's whole range."
        ),
        "",
    ]


def our_points(record: dict[str, Any], summary: Summary) -> list[str]:
    """Rate, distortion and times of our models at each quality."""
    digits = {"psnr": 2, "ms_ssim": 4, "ssimulacra2": 1}
    rows = (
        (
            f"`{c['name']}`",
            f"{p['quality']:g}",
            f"{p['bpp']:.3f}",
            *(_decimal(p[metric], digits[metric]) for metric in summary.ranges),
            f"{p['encode_s_per_mp']:.3f}",
            f"{p['decode_s_per_mp']:.3f}",
        )
        for c in record["coders"]
        if c["ours"]
        for p in c["points"]
    )
    names = ("PSNR, dB" if m == "psnr" else METRICS[m].name for m in summary.ranges)
    head = ["model", "quality", "bpp", *names, "encode, s/MP", "decode, s/MP"]
    return ["## Our models at each quality", "", *table(head, rows)]


def generation_loss(record: dict[str, Any]) -> list[str]:
    """PSNR after repeated coding; nothing if it was not measured."""
    found = record.get("generations")  # not in records of version 0.3.0
    if not found:
        return []
    ours = {c["name"] for c in record["coders"] if c["ours"]}
    shown = (1, 2, 5, len(found[0]["psnr"]))
    rows = (
        (
            f"`{g['name']}`" if g["name"] in ours else g["name"],
            f"{g['quality']:g}",
            f"{g['bpp']:.3f}",
            *(f"{g['psnr'][n - 1]:.2f}" for n in shown),
            signed(g["psnr"][-1] - g["psnr"][0], 2),
        )
        for g in found
    )
    head = ["coder", "quality", "bpp", *(f"{n} ×" for n in shown), "change"]
    return [
        "## Generation loss",
        "",
        *paragraph(
            f"PSNR, dB, of a picture that is coded {shown[-1]} times: each time, the 8-bit pixels "
            "that the time before decoded are encoded and decoded at the same quality. PSNR "
            f"compares with the source, and is the mean over {found[0]['pictures']} "
            "pictures. The other codecs run at the quality that takes about the bits of "
            f"`{DEFAULT_MODEL}`; bpp is that of the first file."
        ),
        "",
        *table(head, rows),
        "",
        *paragraph(
            "A coder loses little if it finds the values that it stored in the pixels that it "
            "decoded, and so rounds them to the same values again. JPEG does: it transforms the "
            "same blocks with the same steps. Coders with prediction or filters choose these anew "
            "for each picture. g_a of a model is not the exact inverse of its g_s."
        ),
    ]


def _decimal(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{signed(value, 1)} %"
