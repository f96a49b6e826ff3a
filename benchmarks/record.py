"""One run of the main benchmark: all measurements as one record of plain data (record.json)."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from tqdm import tqdm

import stfcodec
from benchmarks import (
    ROOT,
    generations,
    memory,
    points,
    processes,
    published_curves,
    ssimulacra2_score,
)
from benchmarks.coders import PRECISIONS, Coder, available, with_precision
from benchmarks.pictures import mosaic, read_folder, read_note
from stfcodec import machine
from stfcodec.metrics import MS_SSIM_MIN_SIDE
from stfcodec.models.registry import DEFAULT_MODEL


class Run(NamedTuple):
    """What the parts of one run measure: pictures, coders, and the samples of both."""

    images: Sequence[np.ndarray]
    coders: Sequence[Coder]
    samples: points.Samples
    quick: bool


NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""What a data set may be called: its page and folder have this name."""


def megapixels(images: Sequence[np.ndarray]) -> float:
    """Of all pictures (H, W, 3) together."""
    return sum(image.shape[0] * image.shape[1] for image in images) / 1e6


def data_set_name(folder: Path) -> str:
    """The name of a data set after its folder: small letters, and - for what does not belong into
    a name."""
    return re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._") or "pictures"


_SIZES = [(512, 768), (1500, 2000), (4000, 6000), (10000, 10000)]


def measure(
    folder: Path,
    name: str,
    quick: bool,
    skip: tuple[str, ...],
    crop: int | None,
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The record of everything but the parts in `skip`. name: of the data set.

    `save` gets the record before each part, so that an interrupted run leaves what it has measured.
    Raises click.UsageError if the folder holds no pictures, or one that is too small for MS-SSIM.
    """
    started = time.perf_counter()
    images = read_folder(folder, 4 if quick else None, crop, MS_SSIM_MIN_SIDE)
    coders, absent = available()
    total = len(images) * sum(len(c.qualities) for c in coders)
    with _progress("rate and distortion", total) as advance:
        samples = points.take_samples(coders, images, advance=advance)
    found = points.means(coders, samples)
    record: dict[str, Any] = {
        "command": _command(folder, name, quick, skip, crop),
        "date": datetime.now(UTC).date().isoformat(),
        "version": stfcodec.__version__,
        "commit": _commit(),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "machine": machine.describe(),
        "pictures": {
            "folder": name,
            "count": len(images),
            "megapixels": round(megapixels(images), 2),
        },
        "coders": [
            {
                "name": c.name,
                "settings": c.settings,
                "ours": c.ours,
                "effort": c.effort,
                "points": [{**p.to_json(), "ssimulacra2": None} for p in found[c.name]],
                "memory": None,
            }
            for c in coders
        ],
        "absent": absent,
        "note": read_note(folder),
        "published_curves": {},
        "published_left_out": "",
        "ssimulacra2_package": None,
        "generations": [],
        "memory_picture": None,
        "sizes": [],
        "start_up": {},
        "folder": {},
        "precision": [],
        "speedup": {},
    }
    published, why_not = published_curves.published_set(
        name, len(images), megapixels(images), crop is None
    )
    record["published_left_out"] = why_not
    if published is not None:
        curves = {name: curve._asdict() for name, curve in published.curves.items()}
        record["published_curves"] = curves
    run = Run(images, coders, samples, quick)
    for part, fill in PARTS.items():
        if part not in skip:
            save(record)
            fill(record, run)
            record["minutes"] = round((time.perf_counter() - started) / 60, 1)
    return record


def _ssimulacra2(record: dict[str, Any], run: Run) -> None:
    version = ssimulacra2_score.package_version()
    if version is None:
        record["absent"]["SSIMULACRA2"] = f"needs pip install {ssimulacra2_score.PACKAGE}"
        return
    with _progress("SSIMULACRA2", len(run.images) * len(run.samples)) as advance:
        found = ssimulacra2_score.mean_scores(run.coders, run.images, run.samples, advance)
    record["ssimulacra2_package"] = version
    for entry in record["coders"]:
        for point in entry["points"]:
            point["ssimulacra2"] = found[entry["name"], point["quality"]]


def _generations(record: dict[str, Any], run: Run) -> None:
    """At most six pictures, from all over the folder."""
    some = run.images[:: -(-len(run.images) // 6)]
    compared = generations.choose(run.coders, points.means(run.coders, run.samples))
    with _progress("generations", len(some) * len(compared) * generations.TIMES) as advance:
        for coder, quality in compared:
            found = generations.measure(coder, quality, some, advance)
            record["generations"].append({**found._asdict(), "pictures": len(some)})


def _memory(record: dict[str, Any], run: Run) -> None:
    height, width = (512, 768) if run.quick else (4000, 6000)
    picture = mosaic(run.images, height, width)
    record["memory_picture"] = [height, width]
    with _progress("memory", len(run.coders)) as advance:
        for coder, entry in zip(run.coders, record["coders"], strict=True):
            try:
                entry["memory"] = memory.measure(coder, picture).to_json()
            except subprocess.CalledProcessError as error:
                why = f"its process ended with code {error.returncode}"
                record["absent"][f"memory of {coder.name}"] = why
            advance()


def _sizes(record: dict[str, Any], run: Run) -> None:
    """The default model, from small to very large pictures."""
    coder = next(c for c in run.coders if c.name == DEFAULT_MODEL)
    sizes = [(256, 384), (512, 768)] if run.quick else _SIZES
    with _progress("sizes", len(sizes)) as advance:
        for height, width in sizes:
            found = memory.measure(coder, mosaic(run.images, height, width))
            record["sizes"].append({"height": height, "width": width, **found.to_json()})
            advance()


def _start_up(record: dict[str, Any], run: Run) -> None:
    rounds = 2 if run.quick else 6
    with _progress("start-up", 5 * rounds) as advance:
        record["start_up"] = processes.start_up_times(rounds, advance)


def _folder(record: dict[str, Any], run: Run) -> None:
    some = run.images[:8]
    with _progress("folder", 2 * (len(some) + 1)) as advance:
        found = processes.folder_times(some, advance)
    record["folder"] = {name: times._asdict() for name, times in found.items()}


def _precision(record: dict[str, Any], run: Run) -> None:
    plain = [coder for coder in run.coders if coder.ours and not coder.effort]
    compared = [with_precision(coder, label) for coder in plain for label in PRECISIONS]
    with _progress("precision", len(run.images) * len(compared)) as advance:
        found = points.measure(compared, run.images, with_ms_ssim=False, advance=advance)
    record["precision"] = [{"name": name, **p.to_json()} for name, (p,) in found.items()]


def _speedup(record: dict[str, Any], run: Run) -> None:
    from benchmarks import compressai_coder, speedup

    if compressai_coder.load() is None:
        record["absent"]["the reference implementation"] = "needs compressai's compiled coder"
        return
    picture = mosaic(run.images, 512, 768)
    rounds = 1 if run.quick else 5
    total = len(speedup.MODELS) * (rounds + 1) * (1 + len(PRECISIONS))
    with _progress("reference implementation", total) as advance:
        for info in speedup.MODELS:
            found = speedup.measure(info, picture, rounds, advance)
            record["speedup"][info.name] = {
                "bpp": found.bpp,
                "reference": found.reference._asdict(),
                "ours": {label: seconds._asdict() for label, seconds in found.ours.items()},
            }


PARTS = {
    "ssimulacra2": _ssimulacra2,
    "generations": _generations,
    "memory": _memory,
    "sizes": _sizes,
    "start-up": _start_up,
    "folder": _folder,
    "precision": _precision,
    "speedup": _speedup,
}
"""What may be skipped, and the function that adds it to a record."""


def _commit() -> str:
    """Short hash of the checkout's commit, with "-dirty" if files differ; empty without git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _command(folder: Path, name: str, quick: bool, skip: tuple[str, ...], crop: int | None) -> str:
    words = ["python -m benchmarks", folder.resolve().name]
    words += [f"--name {name}"] if name != data_set_name(folder) else []
    words += ["--quick"] * quick + [f"--skip {part}" for part in skip]
    words += [f"--crop {crop}"] if crop else []
    return " ".join(words)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], object]]:
    """A bar on a terminal, a line elsewhere; yields the function that advances it by one."""
    if not sys.stderr.isatty():
        click.echo(f"{what} …", err=True)
    with tqdm(total=total, desc=what, disable=None, leave=False) as bar:
        yield bar.update
