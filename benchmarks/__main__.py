"""Measure everything on a folder of pictures, in one run: `make bench`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import click

from benchmarks import run
from benchmarks.page import render
from benchmarks.summary import summarise


@click.command()
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--quick", is_flag=True, help="Four pictures, fewer rounds, a small memory picture.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for benchmarks.md and benchmarks/ [default: docs, or .bench with --quick].",
)
@click.option("--skip", multiple=True, type=click.Choice(list(run.PARTS)), help="Leave a part out.")
@click.option("--crop", type=int, help="Use only the middle of each picture, this wide and high.")
@click.option("--redraw", is_flag=True, help="Measure nothing: page and plots from OUT's record.")
def main(
    pictures: Path,
    quick: bool,
    out: Path | None,
    skip: tuple[str, ...],
    crop: int | None,
    redraw: bool,
) -> None:
    """Rate, distortion, time, memory and start-up of our models and of other codecs on PICTURES.

    Writes benchmarks.md, and into benchmarks/ record.json, points.csv and the plots.
    """
    out = out or Path(".bench" if quick else "docs")
    folder = out / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    if redraw:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    else:
        record = run.measure(pictures, quick, skip, crop, lambda r: _save(r, folder))
        _save(record, folder)
    _write(record, out)
    click.echo(f"{out / 'benchmarks.md'}: written, with {folder}")


def _save(record: dict[str, Any], folder: Path) -> None:
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (folder / "record.json").write_text(text + "\n", encoding="utf-8")


def _write(record: dict[str, Any], out: Path) -> None:
    from benchmarks import plots

    summary = summarise(record)
    folder = out / "benchmarks"
    with (folder / "points.csv").open("w", newline="", encoding="utf-8") as file:
        columns = list(record["coders"][0]["points"][0])
        writer = csv.DictWriter(file, ["coder", *columns])
        writer.writeheader()
        for coder in record["coders"]:
            writer.writerows({"coder": coder["name"], **point} for point in coder["points"])
    plots.rate_distortion(record, folder / "rate-distortion.png")
    plots.times(summary.rows, folder / "times.png")
    (out / "benchmarks.md").write_text(render(record, summary, folder.name), encoding="utf-8")


if __name__ == "__main__":
    main()
