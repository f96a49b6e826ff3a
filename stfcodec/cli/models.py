"""stfcodec models: the models and whether their weights are here. Needs neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from stfcodec.cli import commands, messages
from stfcodec.models import locate, registry

_COLUMNS = ("model", "family", "parameters", "qualities", "weights")


@click.command("models", cls=commands.Command)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a model on stdout.")
def command(as_json: bool) -> int:
    """List the models and whether their weights are here.

    For embedded weights, what was measured at each quality is listed below.
    """
    records = [_record(info) for info in registry.MODELS]
    for record in records if as_json else ():
        messages.record(record)
    for line in () if as_json else _report(records):
        messages.result(line)
    return 0


def _record(info: registry.ModelInfo) -> dict[str, Any]:
    return {
        "model": info.name,
        "family": info.family,
        "parameters": info.parameters,
        "variable_rate": info.variable_rate,
        "lambdas": registry.LAMBDAS,
        "weights": locate.status(info),
        "qualities": locate.qualities(info),
        "measured": list(_measured(info)),
    }


def _measured(info: registry.ModelInfo) -> Iterator[dict[str, Any]]:
    """The manifest's records {"quality", "bpp", "psnr", ...} for every weights file of a model."""
    for name in locate.file_names(info):
        yield from locate.manifest().get(name, {}).get("measured", ())


def _report(records: list[dict[str, Any]]) -> Iterator[str]:
    yield from table([_COLUMNS, *map(_row, records)])
    for record in records:
        if record["measured"]:
            rows = [
                (f"{point['quality']:g}", f"{point['bpp']:.3f}", f"{point['psnr']:.2f}")
                for point in record["measured"]
            ]
            yield ""
            yield f"{record['model']}, measured:"
            yield from table([("quality", "bpp", "PSNR (dB)"), *rows])


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    qualities = f"1 to {len(record['lambdas'])}"
    return (
        record["model"],
        record["family"],
        f"{record['parameters'] / 1e6:.1f} M",
        qualities if record["variable_rate"] else f"{qualities}, whole",
        _weights(record),
    )


def _weights(record: dict[str, Any]) -> str:
    """Where they are, and which qualities they serve if not all."""
    if len(record["qualities"]) in (0, len(record["lambdas"])):
        return str(record["weights"])
    return f"{record['weights']} (quality {', '.join(map(str, record['qualities']))})"


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Lines with the cells of each row in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
