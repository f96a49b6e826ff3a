"""Tables on pages: what a benchmark's record says, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stfcodec.bench.summary import Summary


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
        _memory(record),
        _start_up(record),
        _folder(record),
        _speedup(record),
        _method(record),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _opening(record: dict[str, Any], folder: str) -> list[str]:
    pictures = record["pictures"]
    return [
        "# Benchmarks",
        "",
        f"    {record['command']}",
        "",
        f"This page, its plots and the data behind them ([JSON]({folder}/record.json), "
        f"[CSV]({folder}/points.csv)) were",
        f"written by that command in one run of {record['minutes']:.0f} minutes, on "
        f"{pictures['count']} pictures of `{pictures['folder']}`",
        f"({pictures['megapixels']:.1f} megapixels).",
        "",
        *table(["", "machine"], record["machine"].items()),
    ]


def _comparison(record: dict[str, Any], summary: Summary, folder: str) -> list[str]:
    lines = [
        "## Against other codecs",
        "",
        f"![PSNR and MS-SSIM against bits per pixel]({folder}/rate-distortion.png)",
        "",
    ]
    for name, peer in record["peers"].items():
        lines.append(f"* {name}, published: not measured here, but taken from {peer['source']}.")
    if record["peers"]:
        lines.append("")
    lines += [
        *table(
            ["coder", "BD-rate, PSNR", "BD-rate, MS-SSIM", "encode, s/MP", "decode, s/MP"],
            (
                (
                    f"**`{r.name}`**" if r.ours else r.name,
                    _percent(r.bd_psnr),
                    _percent(r.bd_ms_ssim),
                    f"{r.encode:.3f}",
                    f"{r.decode:.3f}",
                )
                for r in summary.rows
            ),
        ),
        "",
    ]
    ranges = [
        f"{low:.1f}–{high:.1f} dB of {name}"
        for name, over in (("PSNR", summary.psnr), ("MS-SSIM", summary.ms_ssim))
        if over
        for low, high in [over]
    ]
    if ranges:
        lines += [
            "BD-rate: how many more bits than JPEG 4:4:4 of this run are needed for the same quality,",
            f"averaged over the range that every coder covers ({', '.join(ranges)}); fewer is better.",
            "The README's BD-rate covers the model's whole own range instead.",
        ]
    lines += [
        "Times are medians over pictures and qualities, of library calls in one warmed-up process "
        "from an array",
        "in memory to a file's bytes and back; every coder may use every core.",
        "",
        f"![Coding time]({folder}/times.png)",
    ]
    return lines


def _our_points(record: dict[str, Any]) -> list[str]:
    rows = [
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
    ]
    head = ["model", "quality", "bpp", "PSNR, dB", "MS-SSIM", "encode, s/MP", "decode, s/MP"]
    return ["## Our models at each quality", "", *table(head, rows)]


def _memory(record: dict[str, Any]) -> list[str]:
    measured = [c for c in record["coders"] if c["memory"]]
    if not measured:
        return []
    height, width = record["memory_picture"]
    rows = [
        (
            f"`{c['name']}`" if c["ours"] else c["name"],
            f"{c['memory']['encode']:,.0f}",
            f"{c['memory']['decode']:,.0f}",
        )
        for c in measured
    ]
    return [
        "## Memory",
        "",
        f"Peak resident memory, MiB, of a process that codes one picture of {width}×{height} "
        f"({width * height / 1e6:.1f} megapixels)",
        "at the coder's middle quality; Python, libraries and the picture itself "
        f"({3 * width * height / 2**20:.0f} MiB) are in it.",
        "",
        *table(["coder", "encode", "decode"], rows),
    ]


def _start_up(record: dict[str, Any]) -> list[str]:
    times = record["start_up"]
    if not times:
        return []
    return [
        "## Start-up",
        "",
        "Wall time of whole processes, median; the picture has 64×64 pixels.",
        "",
        *table(
            ["command", "seconds", "beyond `import torch`"],
            (
                (
                    f"`{name}`",
                    f"{t:.2f}",
                    f"{t - next(iter(times.values())):+.2f}" if "code" in name.split()[1] else "–",
                )
                for name, t in times.items()
            ),
        ),
    ]


def _folder(record: dict[str, Any]) -> list[str]:
    if not record["folder"]:
        return []
    some = next(iter(record["folder"].values()))
    return [
        "## Folders",
        "",
        f"{some['pictures']} pictures, {some['megapixels']:.1f} megapixels, default model and "
        "quality: `stfcodec encode FOLDER -r` against one",
        "process a file, one after another; whole wall time, start-up included.",
        "",
        *table(
            ["", "folder, s", "one process a file, s", "throughput"],
            (
                (
                    name,
                    f"{f['together']:.1f}",
                    f"{f['one_by_one']:.1f}",
                    f"{f['one_by_one'] / f['together']:.1f} ×",
                )
                for name, f in record["folder"].items()
            ),
        ),
    ]


def _speedup(record: dict[str, Any]) -> list[str]:
    if not record["speedup"]:
        return []
    rows = []
    for name, s in record["speedup"].items():
        published = s["published"]
        rows.append((f"`{name}`", "published", *(f"{t:.2f}" for t in published.values()), "", ""))
        for way, ours in s["ours"].items():
            ratios = (f"{published[k] / ours[k]:.1f} ×" for k in ours)
            rows.append(("", way, *(f"{t:.2f}" for t in ours.values()), *ratios))
    head = ["model", "by", "encode, s/MP", "decode, s/MP", "encode, faster", "decode, faster"]
    return [
        "## Paper size, against the published algorithm",
        "",
        "The published algorithm (`stfcodec/bench/published.py`) is the authors' code in its "
        "terms: eager float32,",
        "NCHW, symbols through Python lists. Both take turns on one 768×512 picture. The weights "
        "are stand-ins, spread",
        "so that the picture takes about as many bits as with trained ones ("
        + ", ".join(f"`{n}` {s['bpp']:.2f} bpp" for n, s in record["speedup"].items())
        + ").",
        "",
        *table(head, rows),
    ]


def _method(record: dict[str, Any]) -> list[str]:
    return [
        "## What was run",
        "",
        *table(
            ["coder", "options", "qualities"],
            (
                (c["name"], f"`{c['settings']}`",
                 ", ".join(f"{p['quality']:g}" for p in c["points"]))
                for c in record["coders"]
            ),
        ),
        "",
        *(f"Not measured: {name} ({why})." for name, why in record["absent"].items()),
        "bpp from whole files; PSNR (over all samples of a picture) and MS-SSIM (five scales, "
        "mean over R, G and B) from",
        "decoded 8-bit RGB; all three are means over the pictures. AVIF and JPEG XL are tuned to "
        "look good, not for PSNR;",
        "“AVIF psnr” is told to go for PSNR, and “slow” is speed 4 instead of 6.",
    ]  # fmt: skip


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f} %".replace("-", "−")
