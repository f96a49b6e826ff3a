"""The tables of the study in docs/ablation.md, and the data behind them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from benchmarks.ablation.runs import BASES, KINDS
from benchmarks.markdown import paragraph, replace_block, signed, table
from stfcodec.metrics import bd_rate

Record = dict[str, Any]
"""What `measure.measure` returns for one run."""


MARKS = ("facts", "rates", "costs", "allocation", "runs")
"""The places of the page that the command fills."""


def write_page(records: Sequence[Record], facts: Mapping[str, Any], docs: Path) -> None:
    """Rewrite the tables of ablation.md, and ablation/runs.json, below `docs`.

    facts: what was run, when, and on which machine.
    """
    data = docs / "ablation"
    data.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "runs": list(records)}, indent=1, ensure_ascii=False)
    (data / "runs.json").write_text(text + "\n", encoding="utf-8")
    page = docs / "ablation.md"
    replace_block(page, "facts", list(_facts(records, facts)))
    for mark, lines in tables(records).items():
        replace_block(page, mark, lines)


def tables(records: Sequence[Record]) -> dict[str, list[str]]:
    """The lines of each table by the mark of its place."""
    made = {"rates": _bd_rates, "costs": _costs, "allocation": _allocation, "runs": _runs}
    return {mark: list(lines(records)) for mark, lines in made.items()}


def _facts(records: Sequence[Record], facts: Mapping[str, Any]) -> list[str]:
    crops = sorted(round(r["megapixels"] * 1e6 / 256**2) for r in records)
    return [
        f"    {facts['command']}",
        "",
        *paragraph(
            f"This command trained {len(records)} codecs, each with the steps that take "
            f"{facts['minutes']:g} minutes of {facts['device']}, measured them on "
            f"the middle {facts['crop']}×{facts['crop']} pixels of {records[0]['pictures']} "
            f"pictures of `{records[0]['set']}`, and wrote the tables, the pictures "
            f"and [the data](ablation/runs.json) on {facts['date']} "
            f"({facts['machine']}). A codec saw between {crops[0]:,} and {crops[-1]:,} crops of "
            "256×256 pixels."
        ),
    ]


def _of(records: Sequence[Record], base: str, attention: str) -> list[Record]:
    found = [r for r in records if (r["base"], r["attention"]) == (base, attention)]
    return sorted(found, key=lambda r: r["seed"])


def _points(record: Record) -> list[tuple[float, float]]:
    return [(p["bpp"], p["psnr"]) for p in record["points"]]


def bd_rates(records: Sequence[Record], base: str, anchor: str, attention: str) -> list[float]:
    """BD-rates of one kind of attention against another, one for each seed that both have.

    Seeds whose curves share no range of PSNR are left out.
    """
    anchors = {r["seed"]: _points(r) for r in _of(records, base, anchor)}
    found: list[float] = []
    for r in _of(records, base, attention):
        if r["seed"] in anchors:
            with suppress(ValueError):
                found.append(bd_rate(anchors[r["seed"]], _points(r)))
    return found


def losses_on_same_crops(records: Sequence[Record], base: str, attention: str) -> list[float]:
    """The training loss of one kind of attention in percent beyond that of none, for each seed.

    Both are means over the same steps, and so over the same crops: the second half of the steps
    before any run of the codec begins to decay. Runs of a step or two have none.
    """
    of_base = [r for r in records if r["base"] == base]
    stop = min(int(r["steps"] * (1 - r["decay"])) for r in of_base)
    if stop < 2:
        return []
    anchors = {r["seed"]: _mean_loss(r, stop // 2, stop) for r in _of(records, base, "none")}
    return [
        100 * (_mean_loss(r, stop // 2, stop) / anchors[r["seed"]] - 1)
        for r in _of(records, base, attention)
        if r["seed"] in anchors
    ]


def _mean_loss(record: Record, start: int, stop: int) -> float:
    """The mean training loss of the steps start…stop, from the means of the log's rows."""
    steps, sums = [0], [0.0]
    for step, loss in record["training_loss"]:
        sums.append(sums[-1] + (step - steps[-1]) * loss)
        steps.append(step)
    first, last = np.interp([start, stop], steps, sums)
    return float(last - first) / (stop - start)


def _spread(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    text = signed(mean(values), digits)
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def _bd_rates(records: Sequence[Record]) -> Iterator[str]:
    rows = []
    for base, title in BASES.items():
        for attention, kind in KINDS.items():
            rates = bd_rates(records, base, "none", attention)
            held_out = [r["held_out"] for r in _of(records, base, attention)]
            same_crops = losses_on_same_crops(records, base, attention)
            is_anchor = attention == "none"
            rows.append(
                (
                    title,
                    kind,
                    "0 (anchor)" if is_anchor else f"{_spread(rates, 1)} %",
                    _spread(held_out, 3),
                    "0 (anchor)" if is_anchor else f"{_spread(same_crops, 1)} %",
                )
            )
    head = ["codec", "attention", "BD-rate against none", "held-out loss", "loss on the same crops"]
    yield from table(head, rows)
    yield ""
    direct = []
    for base, title in BASES.items():
        rates = bd_rates(records, base, "nonlocal", "window")
        each = ", ".join(f"{signed(rate, 1)} %" for rate in rates)
        direct.append((title, f"{_spread(rates, 1)} %", each))
    yield from table(["codec", "BD-rate of window against non-local", "each seed"], direct)


def _costs(records: Sequence[Record]) -> Iterator[str]:
    rows = []
    for base, title in BASES.items():
        for attention, kind in KINDS.items():
            first = _of(records, base, attention)[0]
            rows.append(
                (
                    title,
                    kind,
                    f"{first['parameters'] / 1e6:.2f} M",
                    f"{first['kmac_per_pixel']:.1f}",
                    f"{first['steps']}",
                    f"{first['megapixels']}",
                )
            )
    head = ["codec", "attention", "parameters", "g_a and g_s, kMAC/pixel", "steps", "megapixels"]
    yield from table(head, rows)


def _allocation(records: Sequence[Record]) -> Iterator[str]:
    rows = []
    for base, title in BASES.items():
        for attention, kind in KINDS.items():
            found = _of(records, base, attention)
            shares = [
                [100 * r[name] for r in found]
                for name in ("share_of_most_bits", "share_of_most_detail")
            ]
            rows.append((title, kind, *(f"{_spread(s, 1).lstrip('+')} %" for s in shares)))
    yield from table(["codec", "attention", "most bits", "most detail"], rows)


def _runs(records: Sequence[Record]) -> Iterator[str]:
    qualities = [p["quality"] for p in records[0]["points"]]
    rows = [
        (
            f"{BASES[r['base']]}, {r['attention']}, seed {r['seed']}",
            *(f"{p['bpp']:.3f} / {p['psnr']:.2f}" for p in r["points"]),
        )
        for r in records
    ]
    yield from table(["run", *(f"q{quality:g}" for quality in qualities)], rows)
