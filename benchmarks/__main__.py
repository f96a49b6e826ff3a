"""The main benchmark, `make bench`: measures everything on a folder of pictures in one run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import click

from benchmarks import ROOT, history
from benchmarks.markdown import replace_block
from benchmarks.options import NEW_PATH, crop_option, folder_argument
from benchmarks.page import data_sets, render
from benchmarks.record import NAME, PARTS, data_set_name, measure
from benchmarks.summary import summarise


@click.command(epilog="More benchmarks, python -m benchmarks.NAME each: see benchmarks/README.md.")
@folder_argument
@click.option("--quick", is_flag=True, help="Four pictures, fewer rounds, small pictures.")
@click.option("--name", help="Of the data set: small letters, digits, . _ -.  [default: FOLDER's]")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for NAME.md and NAME/.  [default: docs/benchmarks, or .bench with --quick]",
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
    name: str | None,
    quick: bool,
    out: Path | None,
    skip: tuple[str, ...],
    crop: int | None,
    redraw: bool,
    history_path: Path,
) -> None:
    """Measure our models and other codecs on the pictures in FOLDER, a data set.

    Rate, distortion, time, generation loss, memory and start-up. Writes OUT/NAME.md, and into
    OUT/NAME/ record.json, points.csv and the plots. The page above OUT that lists the data sets is
    brought up to date, if it is there.
    """
    name = data_set_name(folder) if name is None else name
    if not NAME.fullmatch(name):
        raise click.UsageError(f"--name {name}: give small letters, digits, . _ and - only")
    out = out or (Path(".bench") if quick else ROOT / "docs" / "benchmarks")
    data = out / name
    if redraw:
        record = _load(data)
    else:
        record = measure(folder, name, quick, skip, crop, lambda r: _save(r, data))
        _save(record, data)
        if history.is_complete(record):
            history.append(record, history_path)
    _write_page(record, out / f"{name}.md", data)
    out = out.resolve()
    index = out.parent / f"{out.name}.md"
    if index.exists():
        records = {path.parent.name: _load(path.parent) for path in out.glob("*/record.json")}
        replace_block(index, "data-sets", list(data_sets(records, out.name)))
    click.echo(f"{out / name}.md: written, with {data}")


def _load(data: Path) -> dict[str, Any]:
    """The record of a data set. Raises click.UsageError where there is none."""
    try:
        found: dict[str, Any] = json.loads((data / "record.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise click.UsageError(f"{data} has no record.json: measure it without --redraw") from None
    return found


def _save(record: dict[str, Any], data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (data / "record.json").write_text(text + "\n", encoding="utf-8")


def _write_page(record: dict[str, Any], page: Path, data: Path) -> None:
    from benchmarks import plots

    summary = summarise(record)
    with (data / "points.csv").open("w", newline="", encoding="utf-8") as file:
        columns = list(record["coders"][0]["points"][0])
        writer = csv.DictWriter(file, ["coder", *columns])
        writer.writeheader()
        for coder in record["coders"]:
            writer.writerows({"coder": coder["name"], **point} for point in coder["points"])
    plots.rate_distortion(record, data / "rate-distortion.png")
    plots.times(summary.rows, data / "times.png")
    page.write_text(render(record, summary, data.name), encoding="utf-8")


if __name__ == "__main__":
    main()
