"""The attention study, `make ablation`: train the runs, measure them, write docs/ablation.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from benchmarks import ROOT
from benchmarks.ablation.page import Record, write_page
from benchmarks.ablation.runs import all_runs
from benchmarks.options import EXISTING_FOLDER, NEW_PATH, crop_option
from benchmarks.pictures import read_folder
from stfcodec import machine
from stfcodec.geometry import DOWNSAMPLING_Z

if TYPE_CHECKING:
    from benchmarks.ablation.study import Study

_SHOWN = 18
"""Number of the picture that heat maps are drawn of: of Kodak, the lighthouse."""


@click.command()
@click.argument("photographs", type=EXISTING_FOLDER)
@click.argument("pictures", type=EXISTING_FOLDER)
@click.option("--out", type=NEW_PATH, help="Folder of the runs.  [default: runs/ablation]")
@click.option("--minutes", type=float, default=3.5, show_default=True, help="Training of each run.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--only", multiple=True, metavar="RUN", help="Such as wacnn-window-0; repeatable.")
@crop_option(384)
@click.option("--docs", type=NEW_PATH, help="Folder of ablation.md.  [default: docs]")
def main(
    photographs: Path,
    pictures: Path,
    out: Path | None,
    minutes: float,
    seeds: int,
    device: str,
    threads: int,
    only: tuple[str, ...],
    crop: int,
    docs: Path | None,
) -> None:
    """Train codecs that differ in their attention on PHOTOGRAPHS, and measure them on PICTURES.

    Every run trains for the same MINUTES. A study that was broken off goes on where it was. The
    tables of docs/ablation.md, its pictures and its data, in docs/ablation/, are rewritten, unless
    --only leaves runs out: so several processes can train at once.
    """
    from benchmarks.ablation.measure import measure
    from benchmarks.ablation.study import Study
    from stfcodec.train.loop import prepare_process

    runs = [run for run in all_runs(seeds) if not only or run.name in only]
    if unknown := set(only) - {run.name for run in runs}:
        raise click.UsageError(f"no such run: {', '.join(sorted(unknown))}")
    docs = docs or ROOT / "docs"
    if not only and not (docs / "ablation.md").exists():
        raise click.UsageError(f"{docs} has no ablation.md, whose tables are to be written")
    prepare_process(threads)
    out = out or ROOT / "runs" / "ablation"
    images = [
        _whole_blocks(image) for image in read_folder(pictures, crop=crop, min_side=DOWNSAMPLING_Z)
    ]
    study = Study(photographs, out, minutes, device, threads)
    records = []
    for run in runs:
        study.train(run, click.echo)
        records.append(measure(out, run, images, pictures.name))
    if not only:
        shown = images[min(_SHOWN, len(images) - 1)]
        _write(records, study, crop, shown, docs)


def _device(study: Study, found: Mapping[str, str]) -> str:
    if study.device == "cuda":
        return found["GPU"]
    threads = study.budget["threads"]
    return "one CPU thread" if threads == 1 else f"{threads} CPU threads"


def _whole_blocks(image: np.ndarray) -> np.ndarray:
    """The picture without what is left of multiples of 64 pixels at its right and bottom."""
    height, width = (n // DOWNSAMPLING_Z * DOWNSAMPLING_Z for n in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def _write(
    records: Sequence[Record], study: Study, crop: int, shown: np.ndarray, docs: Path
) -> None:
    """Rewrite the page, its pictures and its data."""
    from benchmarks.ablation import drawing

    seeds = len({record["seed"] for record in records})
    found = machine.describe()
    facts = {
        "command": f"python -m benchmarks.ablation {study.data.name} {records[0]['set']} "
        f"--minutes {study.minutes:g} --seeds {seeds} --crop {crop}",
        "minutes": study.minutes,
        "crop": crop,
        "device": _device(study, found),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{found['CPU']}, torch {found['torch'].split(',')[0]}",
    }
    write_page(records, facts, docs)
    drawing.curves(records, docs / "ablation" / "curves.png")
    drawing.heat_maps(study.out, "wacnn", 0, shown, docs / "ablation" / "heat.png")
    click.echo(f"{docs / 'ablation.md'}: written")


if __name__ == "__main__":
    main()
