"""Tables on pages: what a benchmark's record says, in Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import IMPORT_TORCH
from benchmarks.summary import Summary, signed
from stfcodec.models.registry import DEFAULT_MODEL


def fill(page: Path, mark: str, lines: list[str]) -> None:
    """Replaces what stands between a page's marks, if it has them."""
    text = page.read_text(encoding="utf-8")
    block = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    table = "".join(f"{line}\n" for line in lines)
    page.write_text(block.sub(lambda m: f"{m[1]}{table}{m[2]}", text), encoding="utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table, line by line."""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def render(record: dict[str, Any], summary: Summary, folder: str) -> str:
    """The whole benchmark page; plots and data lie in `folder` beside it."""
    parts = [
        _opening(record, folder),
        _comparison(record, summary, folder),
        _our_points(record),
        _ways(record),
        _memory(record),
        _sizes(record),
        _start_up(record),
        _folder(record),
        _speedup(record),
        _method(record),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def _opening(record: dict[str, Any], folder: str) -> list[str]:
    pictures = record["pictures"]
    return [
        "# Benchmarks",
        "",
        f"    {record['command']}",
        "",
        *_paragraph(
            f"This page, its plots and the data behind them ([JSON]({folder}/record.json), "
            f"[CSV]({folder}/points.csv)) were written by that command, in one run of "
            f"{record['minutes']:.0f} minutes on {pictures['count']} pictures of "
            f"`{pictures['folder']}` ({pictures['megapixels']:.1f} megapixels)."
        ),
        "",
        *table(["", "machine"], record["machine"].items()),
    ]


def _comparison(record: dict[str, Any], summary: Summary, folder: str) -> list[str]:
    rows = (
        (
            f"**`{r.name}`**" if r.ours else r.name,
            _percent(r.bd_psnr),
            _percent(r.bd_ms_ssim),
            f"{r.encode:.3f}",
            f"{r.decode:.3f}",
        )
        for r in summary.rows
    )
    head = ["coder", "BD-rate, PSNR", "BD-rate, MS-SSIM", "encode, s/MP", "decode, s/MP"]
    return [
        "## Against other codecs",
        "",
        f"![PSNR and MS-SSIM against bits per pixel]({folder}/rate-distortion.png)",
        "",
        *_peers(record),
        *table(head, rows),
        "",
        *_ranges(summary),
        *_paragraph(
            "Times are medians over pictures and qualities, of library calls in one warmed-up "
            "process, from an array in memory to a file's bytes and back; every coder may use "
            "every core."
        ),
        "",
        f"![Coding time]({folder}/times.png)",
    ]


def _peers(record: dict[str, Any]) -> list[str]:
    if not record["peers"]:
        return []
    sources = [f"{name} from {peer['source']}" for name, peer in record["peers"].items()]
    return [*_paragraph(f"Published curves, not measured here: {'; '.join(sources)}."), ""]


def _ranges(summary: Summary) -> list[str]:
    ranges = [
        f"{over[0]:.1f}–{over[1]:.1f} dB of {name}"
        for name, over in (("PSNR", summary.psnr), ("MS-SSIM", summary.ms_ssim))
        if over
    ]
    if not ranges:
        return []
    return [
        *_paragraph(
            "BD-rate: how many more bits than JPEG 4:4:4 of this run the same quality takes, "
            f"averaged over the range that all coders cover ({', '.join(ranges)}); less is "
            "better. The README's BD-rate covers a model's whole own range instead."
        ),
        "",
    ]


def _our_points(record: dict[str, Any]) -> list[str]:
    rows = (
        (
            f"`{c['name']}`",
            f"{p['quality']:g}",
            f"{p['bpp']:.3f}",
            f"{p['psnr']:.2f}",
            "–" if p["ms_ssim"] is None else f"{p['ms_ssim']:.4f}",
            f"{p['encode_s_per_mp']:.3f}",
            f"{p['decode_s_per_mp']:.3f}",
        )
        for c in record["coders"]
        if c["ours"]
        for p in c["points"]
    )
    head = ["model", "quality", "bpp", "PSNR, dB", "MS-SSIM", "encode, s/MP", "decode, s/MP"]
    return ["## Our models at each quality", "", *table(head, rows)]


def _ways(record: dict[str, Any]) -> list[str]:
    if not record["ways"]:
        return []
    rows = (
        (
            w["name"],
            f"{w['quality']:g}",
            f"{w['bpp']:.4f}",
            f"{w['psnr']:.3f}",
            f"{w['encode_s_per_mp']:.3f}",
            f"{w['decode_s_per_mp']:.3f}",
        )
        for w in record["ways"]
    )
    head = ["model", "quality", "bpp", "PSNR, dB", "encode, s/MP", "decode, s/MP"]
    return [
        "## Precision",
        "",
        "`STFCODEC_PRECISION=float32` against what the machine chooses by itself, in turns.",
        "",
        *table(head, rows),
    ]


def _memory(record: dict[str, Any]) -> list[str]:
    measured = [c for c in record["coders"] if c["memory"]]
    if not measured:
        return []
    height, width = record["memory_picture"]
    rows = (
        (
            f"`{c['name']}`" if c["ours"] else c["name"],
            f"{c['memory']['encode']:.0f}",
            f"{c['memory']['decode']:.0f}",
        )
        for c in measured
    )
    return [
        "## Memory",
        "",
        *_paragraph(
            f"Peak resident memory, MiB, of a process that codes one picture of {width}×{height} "
            f"({width * height / 1e6:.1f} megapixels) at the coder's middle quality; Python, "
            f"libraries and the picture itself ({3 * width * height / 2**20:.0f} MiB) are in it."
        ),
        "",
        *table(["coder", "encode", "decode"], rows),
    ]


def _sizes(record: dict[str, Any]) -> list[str]:
    if not record["sizes"]:
        return []

    def row(s: dict[str, Any]) -> Sequence[str]:
        megapixels = s["width"] * s["height"] / 1e6
        seconds = (f"{s[key] / megapixels:.3f}" for key in ("encode_s", "decode_s"))
        peaks = (f"{s[key]:.0f}" for key in ("encode", "decode"))
        return (f"{s['width']}×{s['height']}", f"{megapixels:.1f}", *seconds, *peaks)

    head = ["picture", "megapixels", "encode, s/MP", "decode, s/MP", "encode, MiB", "decode, MiB"]
    return [
        "## Picture sizes",
        "",
        *_paragraph(
            f"`{DEFAULT_MODEL}` at its default quality, each time in a process of its own, after a "
            "small picture for a start; one run each."
        ),
        "",
        *table(head, map(row, record["sizes"])),
    ]


def _start_up(record: dict[str, Any]) -> list[str]:
    times = record["start_up"]
    if not times:
        return []
    torch = times[IMPORT_TORCH]
    rows = (
        (f"`{name}`", f"{t:.2f}", signed(t - torch, 2) if "code " in name else "–")
        for name, t in times.items()
    )
    return [
        "## Start-up",
        "",
        "Wall time of whole processes, median; the picture has 64×64 pixels.",
        "",
        *table(["command", "seconds", "beyond `import torch`"], rows),
    ]


def _folder(record: dict[str, Any]) -> list[str]:
    if not record["folder"]:
        return []
    rows = (
        (
            f"{name}, {f['pictures']} pictures",
            f"{f['together']:.1f}",
            f"{f['one_by_one']:.1f}",
            f"{f['one_by_one'] / f['together']:.1f} ×",
        )
        for name, f in record["folder"].items()
    )
    return [
        "## Folders",
        "",
        *_paragraph(
            "`stfcodec encode FOLDER -r` (and `decode`) against one process a file, one after "
            "another, with the default model and quality; whole wall time, start-up included."
        ),
        "",
        *table(["", "folder, s", "one process a file, s", "throughput"], rows),
    ]


def _speedup(record: dict[str, Any]) -> list[str]:
    if not record["speedup"]:
        return []
    rows: list[Sequence[str]] = []
    for name, s in record["speedup"].items():
        published = s["published"]
        rows.append((f"`{name}`", "published", *(f"{t:.2f}" for t in published.values()), "", ""))
        for way, ours in s["ours"].items():
            ratios = (f"{published[k] / ours[k]:.1f} ×" for k in ours)
            rows.append(("", way, *(f"{t:.2f}" for t in ours.values()), *ratios))
    rates = ", ".join(f"`{name}` {s['bpp']:.2f} bpp" for name, s in record["speedup"].items())
    head = ["model", "by", "encode, s/MP", "decode, s/MP", "encode, faster", "decode, faster"]
    return [
        "## Paper size, against the published algorithm",
        "",
        *_paragraph(
            "The published algorithm (`benchmarks/published.py`): eager float32, NCHW, mean "
            "and scale networks apart, symbols through Python lists. All take turns on one "
            "768×512 picture. The weights are stand-ins, spread so that the picture takes about "
            f"as many bits as with trained ones ({rates})."
        ),
        "",
        *table(head, rows),
    ]


def _method(record: dict[str, Any]) -> list[str]:
    rows = (
        (c["name"], f"`{c['settings']}`", ", ".join(f"{p['quality']:g}" for p in c["points"]))
        for c in record["coders"]
    )
    absent = [f"Not measured: {name} ({why})." for name, why in record["absent"].items()]
    return [
        "## What was run",
        "",
        *table(["coder", "options", "qualities"], rows),
        "",
        *_paragraph(
            "bpp from whole files; PSNR (over all samples of a picture) and MS-SSIM (five scales, "
            "mean over R, G and B) from decoded 8-bit RGB; all three are means over the pictures. "
            "AVIF and JPEG XL are tuned to look good rather than for PSNR; “AVIF psnr” goes for "
            "PSNR, and “slow” is speed 4 instead of 6."
        ),
        *absent,
    ]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{signed(value, 1)} %"
