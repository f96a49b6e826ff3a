"""stfcodec manifest: what runs over a collection have recorded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import click

from stfcodec import storage
from stfcodec.cli import commands, messages
from stfcodec.errors import StfError, UsageError, printable
from stfcodec.formats import STREAM_SUFFIX
from stfcodec.shards import RECORDS, SUFFIXES


@dataclass
class _Totals:
    """Sums over the rows of a manifest."""

    coded: int = 0
    failed: int = 0
    input_bytes: int = 0
    stream_bytes: int = 0
    pixels: int = 0
    seconds: float = 0.0
    psnr: float = 0.0
    measured: int = 0
    weights: Counter[str] = field(default_factory=Counter)

    def add(self, row: dict[str, Any]) -> None:
        if row["error"] is not None:
            self.failed += 1
            return
        self.coded += 1
        self.input_bytes += row["source_bytes"]
        self.stream_bytes += row["bytes"]
        self.pixels += row["width"] * row["height"]
        self.seconds += row["seconds"]
        self.weights[f"{row['model']} {row['fingerprint']}"] += 1
        if row["psnr"] is not None and math.isfinite(row["psnr"]):
            self.psnr += row["psnr"]
            self.measured += 1

    def lines(self) -> Iterator[str]:
        yield f"{self.coded} coded, {self.failed} failed"
        if not self.pixels:
            return
        yield f"{self.pixels / 1e6:.1f} MP in {self.seconds:.1f} s of work"
        bpp = 8 * self.stream_bytes / self.pixels
        yield f"{self.stream_bytes} bytes of streams, {bpp:.3f} bpp; {self.input_bytes} of inputs"
        if self.measured:
            yield f"PSNR {self.psnr / self.measured:.2f} dB, the mean of {self.measured}"
        yield ", ".join(f"{count} by {name}" for name, count in self.weights.most_common())


@click.command("manifest", cls=commands.Command)
@click.argument("output", metavar="OUT")
@click.option("--failed", is_flag=True, help="List what failed, and why.")
@click.option("--check", is_flag=True, help="Look whether every output is there, in full length.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a picture on stdout.")
def command(output: str, failed: bool, check: bool, as_json: bool) -> int:
    """Show what encode or decode recorded of a collection in OUT/_manifest.

    The exit code is 1 if pictures failed, or outputs are not as recorded.
    """
    from stfcodec.collection import manifest

    outputs = storage.place(output)
    folder = storage.joined(outputs, RECORDS)
    if not manifest.parts(folder):
        raise UsageError(f"there is no manifest in {output}: encode --manifest writes one")
    totals, missing = _Totals(), 0
    sizes: dict[str, int | None] = {}
    for row in manifest.rows(folder):
        totals.add(row)
        if as_json and (row["error"] is not None or not failed):
            messages.record(_record(row))
        elif failed and row["error"] is not None:
            name = row["source"] if row["key"] is None else f"{row['source']}/{row['key']}"
            messages.result(printable(f"{name}: {row['error']}"))
        if check and row["error"] is None and (reason := _fault(outputs, row, sizes)):
            missing += 1
            messages.say(printable(f"stfcodec: error: {row['output']}: {reason}"))
    for line in [] if as_json or failed else totals.lines():
        messages.result(line)
    return 1 if totals.failed or missing else 0


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """What --json prints of a row. JSON has no infinite numbers."""
    psnr = row["psnr"]
    is_finite = psnr is not None and math.isfinite(psnr)
    record = {"input": row["source"], **row, "psnr": psnr if is_finite else None}
    del record["source"]
    return record


def _fault(
    outputs: Path | storage.Location, row: dict[str, Any], sizes: dict[str, int | None]
) -> str | None:
    """What is wrong with an output; None if it is as it was recorded.

    sizes: of the shards that were looked at before.
    """
    parts = PurePosixPath(row["output"]).parts
    for end, part in enumerate(parts[:-1], 1):
        if PurePosixPath(part).suffix in SUFFIXES:
            shard = "/".join(parts[:end])
            if shard not in sizes:
                sizes[shard] = _size(storage.joined(outputs, shard))
            return None if sizes[shard] else "its shard is gone"
    size = _size(storage.joined(outputs, row["output"]))
    if size is None:
        return "is gone"
    is_stream = row["output"].endswith(STREAM_SUFFIX)
    return f"has {size} bytes, not {row['bytes']}" if is_stream and size != row["bytes"] else None


def _size(place: Path | storage.Location) -> int | None:
    """Bytes of a file; None if it is gone."""
    if isinstance(place, storage.Location):
        return place.size()
    try:
        return place.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StfError(f"cannot look for {place}: {error.strerror}") from error
