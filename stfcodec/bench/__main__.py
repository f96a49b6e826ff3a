"""Measure everything on a folder of pictures, in one run: `make bench`."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from tqdm import tqdm

from stfcodec.bench import machine, memory, peers, processes, published, rates, speedup
from stfcodec.bench.coders import available
from stfcodec.bench.page import render
from stfcodec.bench.summary import summarise

_PICTURES = {".png", ".bmp", ".tif", ".tiff", ".ppm", ".webp", ".jpg", ".jpeg"}
_PARTS = ("memory", "start-up", "folder", "speedup")


@click.command()
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--quick", is_flag=True, help="Four pictures, fewer rounds, a small memory picture.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for benchmarks.md and benchmarks/ [default: docs, or .bench with --quick].",
)
@click.option("--skip", multiple=True, type=click.Choice(_PARTS), help="Leave a part out.")
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
        record = _measure(pictures, quick, skip, crop)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (folder / "record.json").write_text(text + "\n", encoding="utf-8")
    _write(record, out)
    click.echo(f"{out / 'benchmarks.md'}: written, with {folder}")


def _write(record: dict[str, Any], out: Path) -> None:
    from stfcodec.bench import plots

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


def _measure(folder: Path, quick: bool, skip: tuple[str, ...], crop: int | None) -> dict[str, Any]:
    started = time.perf_counter()
    images = _read(folder, 4 if quick else None, crop)
    coders, absent = available()
    with _progress(
        "rate and distortion", len(images) * sum(len(c.qualities) for c in coders)
    ) as step:
        points = rates.measure(coders, images, step=step)
    record: dict[str, Any] = {
        "command": _command(folder, quick, skip, crop),
        "machine": machine.describe(),
        "pictures": {
            "folder": folder.resolve().name,
            "count": len(images),
            "megapixels": round(sum(i.shape[0] * i.shape[1] for i in images) / 1e6, 2),
        },
        "coders": [
            {
                "name": c.name,
                "settings": c.settings,
                "ours": c.ours,
                "points": [p.to_json() for p in points[c.name]],
                "memory": None,
            }
            for c in coders
        ],
        "absent": absent,
        "peers": {},
        "memory_picture": None,
        "start_up": {},
        "folder": {},
        "speedup": {},
    }
    if folder.resolve().name.lower() == "kodak" and len(images) == 24 and crop is None:
        record["peers"] = {name: peer._asdict() for name, peer in peers.KODAK.items()}
    if "memory" not in skip:
        height, width = (512, 768) if quick else (4000, 6000)
        picture = memory.mosaic(images, height, width)
        record["memory_picture"] = [height, width]
        with _progress("memory", len(coders)) as step:
            for coder, entry in zip(coders, record["coders"], strict=True):
                entry["memory"] = memory.measure(coder, picture).to_json()
                step()
    if "start-up" not in skip:
        rounds = 1 if quick else 5
        with _progress("start-up", 5 * (rounds + 1)) as step:
            record["start_up"] = processes.start_up(rounds, step)
    if "folder" not in skip:
        some = images[:8]
        with _progress("folder", 2 * (len(some) + 1)) as step:
            found = processes.folder(some, step)
            record["folder"] = {name: f._asdict() for name, f in found.items()}
    if "speedup" not in skip:
        if published.is_available():
            record["speedup"] = _speedups(images, 1 if quick else 5)
        else:
            record["absent"]["the published algorithm"] = "needs compressai's compiled coder"
    record["minutes"] = round((time.perf_counter() - started) / 60, 1)
    return record


def _speedups(images: Sequence[np.ndarray], rounds: int) -> dict[str, Any]:
    picture = memory.mosaic(images, 512, 768)
    found = {}
    steps = (rounds + 1) * (1 + len(speedup.WAYS))
    with _progress("published algorithm", len(speedup.PAPER) * steps) as step:
        for info in speedup.PAPER:
            made = speedup.measure(info, picture, rounds, step)
            found[info.name] = {
                "bpp": made.bpp,
                "published": made.published._asdict(),
                "ours": {name: seconds._asdict() for name, seconds in made.ours.items()},
            }
    return found


def _read(folder: Path, limit: int | None, crop: int | None) -> list[np.ndarray]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)[:limit]
    if not paths:
        raise click.UsageError(f"no pictures in {folder}")
    images = [np.array(Image.open(p).convert("RGB")) for p in paths]
    if crop is None:
        return images
    return [_middle(image, crop) for image in images]


def _middle(image: np.ndarray, size: int) -> np.ndarray:
    top, left = (max(0, n - size) // 2 for n in image.shape[:2])
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def _command(folder: Path, quick: bool, skip: tuple[str, ...], crop: int | None) -> str:
    words = ["python -m stfcodec.bench", folder.resolve().name]
    words += ["--quick"] * quick + [f"--skip {part}" for part in skip]
    words += [f"--crop {crop}"] if crop else []
    return " ".join(words)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], object]]:
    """A bar on a terminal, a line elsewhere; gives the function to call after each step."""
    if not sys.stderr.isatty():
        click.echo(f"{what} …", err=True)
    with tqdm(total=total, desc=what, disable=None, leave=False) as bar:
        yield bar.update


if __name__ == "__main__":
    main()
