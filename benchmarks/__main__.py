"""The main benchmark, `make bench`: measures everything on a folder of pictures in one run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import click

from benchmarks import ROOT, history
from benchmarks.options import NEW_PATH, crop_option, folder_argument
from benchmarks.page import render
from benchmarks.record import PARTS, measure
from benchmarks.summary import summarise


@click.command(epilog="More benchmarks, python -m benchmarks.NAME each: see benchmarks/README.md.")
@folder_argument
@click.option("--quick", is_flag=True, help="Four pictures, fewer rounds, small pictures.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for benchmarks.md and benchmarks/.  [default: docs, or .bench with --quick]",
)
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice(list(PARTS)),
    help="Part to leave out; may be repeated.",
)
@crop_option()
@click.option("--redraw", is_flag=True, help="Measure nothing; write the page of OUT's record.")
@click.option(
    "--history",
    "history_path",
    type=NEW_PATH,
    metavar="FILE",
    default=history.PATH,
    help="CSV file that gets a row if FOLDER is all of Kodak.  [default: benchmarks/history.csv]",
)
def main(
    folder: Path,
    quick: bool,
    out: Path | None,
    skip: tuple[str, ...],
    crop: int | None,
    redraw: bool,
    history_path: Path,
) -> None:
    """Measure our models and other codecs on the pictures in FOLDER.

    Rate, distortion, time, generation loss, memory and start-up. Writes OUT/benchmarks.md, and into
    OUT/benchmarks/ record.json, points.csv and the plots.
    """
    out = out or (Path(".bench") if quick else ROOT / "docs")
    data = out / "benchmarks"
    data.mkdir(parents=True, exist_ok=True)
    if redraw:
        record = json.loads((data / "record.json").read_text(encoding="utf-8"))
    else:
        record = measure(folder, quick, skip, crop, lambda r: _save(r, data))
        _save(record, data)
        if history.is_complete(record):
            history.append(record, history_path)
    _write_page(record, out)
    click.echo(f"{out / 'benchmarks.md'}: written, with {data}")


def _save(record: dict[str, Any], data: Path) -> None:
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (data / "record.json").write_text(text + "\n", encoding="utf-8")


def _write_page(record: dict[str, Any], out: Path) -> None:
    from benchmarks import plots

    summary = summarise(record)
    data = out / "benchmarks"
    with (data / "points.csv").open("w", newline="", encoding="utf-8") as file:
        columns = list(record["coders"][0]["points"][0])
        writer = csv.DictWriter(file, ["coder", *columns])
        writer.writeheader()
        for coder in record["coders"]:
            writer.writerows({"coder": coder["name"], **point} for point in coder["points"])
    plots.rate_distortion(record, data / "rate-distortion.png")
    plots.times(summary.rows, data / "times.png")
    (out / "benchmarks.md").write_text(render(record, summary, data.name), encoding="utf-8")


if __name__ == "__main__":
    main()
