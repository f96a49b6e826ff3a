"""History of the benchmark: history.csv has one row for each commit that `make bench` measured.

BD-rates are taken over the range that the model and the anchor both cover, so that a row does not
depend on the other coders of its run. Times are relative to AVIF at speed 6 in the same run, so
that rows of different machines compare roughly.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from benchmarks.coders import AVIF, JPEG_444
from benchmarks.processes import ENCODE
from benchmarks.summary import curve, median_time
from stfcodec.metrics import bd_rate

PATH = Path(__file__).with_name("history.csv")


def is_complete(record: dict[str, Any]) -> bool:
    """Whether a record was taken on the whole 24 Kodak pictures, as published curves are."""
    return record["pictures"]["folder"] == "kodak" and bool(record["published_curves"])


def append(record: dict[str, Any], path: Path = PATH) -> None:
    """Write the row of a record, in place of one of the same commit and machine."""
    new = row(record)
    rows = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    rows = [old for old in rows if _key(old) != _key(new)] + [new]
    columns = dict.fromkeys(name for r in rows for name in r)  # a new model adds columns
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def row(record: dict[str, Any]) -> dict[str, str]:
    """A record of `record.measure` as one row; empty strings for what was not measured."""
    coders = {c["name"]: c for c in record["coders"]}
    machine = record["machine"]
    start_up = record["start_up"].get(ENCODE)
    found = {
        "date": record["date"],
        "version": record["version"],
        "commit": record["commit"],
        "machine": f"{machine['CPU']}, {machine['cores']} cores",
        "encode start-up (s)": "" if start_up is None else f"{start_up:.2f}",
    }
    for name, coder in coders.items():
        if coder["ours"] and not coder["effort"]:
            for anchor in (JPEG_444.name, AVIF.name):
                found[f"{name}: BD-rate against {anchor} (%)"] = _bd_rate(coders.get(anchor), coder)
            for direction in ("encode", "decode"):
                column = f"{name}: {direction} time relative to AVIF"
                found[column] = _relative_time(coders.get(AVIF.name), coder, direction)
    return found


def _key(row: dict[str, str]) -> tuple[str, str]:
    return row["commit"], row["machine"]


def _bd_rate(anchor: dict[str, Any] | None, coder: dict[str, Any]) -> str:
    if anchor is None:
        return ""
    try:
        return f"{bd_rate(curve(anchor, 'psnr'), curve(coder, 'psnr')):.1f}"
    except ValueError:  # no common range
        return ""


def _relative_time(avif: dict[str, Any] | None, coder: dict[str, Any], direction: str) -> str:
    if avif is None:
        return ""
    return f"{median_time(coder, direction) / median_time(avif, direction):.2f}"
