"""The pages of the main benchmark: a record as Markdown, and the list of the data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.markdown import paragraph, signed, table
from benchmarks.options import LITE_MODELS
from benchmarks.page_distortion import comparison, generation_loss, our_points
from benchmarks.processes import IMPORT_TORCH
from benchmarks.summary import Summary, summarise
from stfcodec.models.registry import DEFAULT_MODEL


def render(record: dict[str, Any], summary: Summary, folder: str) -> str:
    """The whole page; links to plots and data are relative to it and lead into `folder`."""
    parts = [
        _opening(record, folder),
        comparison(record, summary, folder),
        our_points(record, summary),
        generation_loss(record),
        _precision(record),
        _memory(record),
        _sizes(record),
        _start_up(record),
        _folder(record),
        _speedup(record),
        _method(record),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def data_sets(records: Mapping[str, dict[str, Any]], folder: str) -> Iterator[str]:
    """A table of the data sets: BD-rates of our models and of AVIF, with links to the pages.

    records: by the name of the data set. The pages are in `folder`.
    """
    shown = [*LITE_MODELS, "AVIF psnr slow", "AVIF psnr", "AVIF"]
    rows = []
    for name, record in sorted(records.items()):
        found = {row.name: row.bd_rates.get("psnr") for row in summarise(record).rows}
        rates = [found.get(coder) for coder in shown]
        rows.append(
            (
                f"[{name}]({folder}/{name}.md)",
                f"{record['pictures']['count']}",
                f"{record['pictures']['megapixels']:.1f}",
                *("–" if rate is None else f"{signed(rate, 1)} %" for rate in rates),
                f"{record['version']}, {record['date']}",
            )
        )
    titles = (f"`{coder}`" if coder in LITE_MODELS else coder for coder in shown)
    yield from table(["data set", "pictures", "megapixels", *titles, "measured"], rows)


def _opening(record: dict[str, Any], folder: str) -> list[str]:
    pictures = record["pictures"]
    return [
        f"# Benchmarks on {pictures['folder']}",
        "",
        f"    {record['command']}",
        "",
        *paragraph(
            f"This page, its plots and the data behind them ([JSON]({folder}/record.json), "
            f"[CSV]({folder}/points.csv)) were written by that command, in one run of "
            f"{record['minutes']:.0f} minutes on {pictures['count']} pictures of "
            f"`{pictures['folder']}` ({pictures['megapixels']:.1f} megapixels), with version "
            f"{record['version']}{_at_commit(record)} on {record['date']}."
        ),
        "",
        *_note(record),
        *table(["", "machine"], record["machine"].items()),
    ]


def _note(record: dict[str, Any]) -> list[str]:
    note = record.get("note")  # not in records of version 0.5.0
    return [*paragraph(note), ""] if note else []


def _at_commit(record: dict[str, Any]) -> str:
    return f" (commit {record['commit']})" if record["commit"] else ""


def _precision(record: dict[str, Any]) -> list[str]:
    if not record["precision"]:
        return []
    rows = (
        (
            p["name"],
            f"{p['quality']:g}",
            f"{p['bpp']:.4f}",
            f"{p['psnr']:.3f}",
            f"{p['encode_s_per_mp']:.3f}",
            f"{p['decode_s_per_mp']:.3f}",
        )
        for p in record["precision"]
    )
    head = ["model", "quality", "bpp", "PSNR, dB", "encode, s/MP", "decode, s/MP"]
    return [
        "## Precision",
        "",
        "`STFCODEC_PRECISION=float32` against the precision chosen by default; both take turns.",
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
        *paragraph(
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
        *paragraph(
            f"`{DEFAULT_MODEL}` at its middle quality, each time in a process of its own that a "
            "small picture has warmed up; one run each."
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
        "Median wall time of whole processes; the picture has 64×64 pixels.",
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
        *paragraph(
            "`stfcodec encode FOLDER -r` (and `decode`) against one process for each file, one "
            "after another, at the default model and quality. Wall time, start-up included."
        ),
        "",
        *table(["", "folder, s", "one process per file, s", "throughput"], rows),
    ]


def _speedup(record: dict[str, Any]) -> list[str]:
    if not record["speedup"]:
        return []
    rows: list[Sequence[str]] = []
    for name, s in record["speedup"].items():
        reference = s["reference"]
        rows.append((f"`{name}`", "reference", *(f"{t:.2f}" for t in reference.values()), "", ""))
        for label, ours in s["ours"].items():
            ratios = (f"{reference[k] / ours[k]:.1f} ×" for k in ours)
            rows.append(("", label, *(f"{t:.2f}" for t in ours.values()), *ratios))
    rates = ", ".join(f"`{name}` {s['bpp']:.2f} bpp" for name, s in record["speedup"].items())
    head = ["model", "by", "encode, s/MP", "decode, s/MP", "encode, faster", "decode, faster"]
    return [
        "## Paper-size models against the reference implementation",
        "",
        *paragraph(
            "The reference implementation (`benchmarks/reference_networks.py`) runs as the "
            "authors' code does: eager float32, NCHW, mean and scale networks apart, symbols "
            "through Python lists. All take turns on one 768×512 picture. The weights are not "
            "trained; they are scaled so that the picture takes about as many bits as with trained "
            f"ones ({rates})."
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
        *paragraph(
            "bpp counts whole files. PSNR (over all samples of a picture) and MS-SSIM (five "
            "scales, mean over R, G and B) are taken from decoded 8-bit RGB. All three are means "
            "over the pictures. AVIF and JPEG XL are tuned for visual quality by default; “AVIF "
            "psnr” is tuned for PSNR, and “slow” is speed 4 instead of 6."
        ),
        *_ssimulacra2(record),
        *absent,
    ]


def _ssimulacra2(record: dict[str, Any]) -> list[str]:
    version = record.get("ssimulacra2_package")  # not in records of version 0.3.0
    if version is None:
        return []
    return [
        "",
        *paragraph(
            "SSIMULACRA2 predicts how people rate a picture: 100 is equal to the source, 90 hardly "
            "told from it, 70 high quality, 50 medium, 30 low. It is the mean over the pictures, "
            f"and is only reported; no model is tuned for it. The package `ssimulacra2` {version} "
            "computes version 2.1 of it in Python, and treats the borders of a picture otherwise "
            "than the original program. Measured once on three pictures, that changed scores by "
            "up to three points at the lowest qualities and by a few tenths at high ones, and "
            "BD-rates by less than one percentage point."
        ),
    ]
