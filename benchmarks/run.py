"""One run of the benchmark: everything measured, as one record of plain data."""

from __future__ import annotations

import subprocess
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

from benchmarks import machine, memory, peers, processes, rates, reference_networks, speedup
from benchmarks.coders import WAYS, Coder, available, by_way
from benchmarks.pictures import middle
from stfcodec.models.registry import DEFAULT_MODEL

_SIZES = [(512, 768), (1500, 2000), (4000, 6000), (10000, 10000)]
_PICTURES = {".png", ".bmp", ".tif", ".tiff", ".ppm", ".webp", ".jpg", ".jpeg"}


def measure(
    folder: Path,
    quick: bool,
    skip: tuple[str, ...],
    crop: int | None,
    save: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The record. `save` gets it after every part: an interrupted run leaves what it has."""
    started = time.perf_counter()
    images = _read(folder, 4 if quick else None, crop)
    coders, absent = available()
    steps = len(images) * sum(len(c.qualities) for c in coders)
    with _progress("rate and distortion", steps) as step:
        points = rates.measure(coders, images, step=step)
    record: dict[str, Any] = {
        "command": _command(folder, quick, skip, crop),
        "minutes": round((time.perf_counter() - started) / 60, 1),
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
                "effort": c.effort,
                "points": [p.to_json() for p in points[c.name]],
                "memory": None,
            }
            for c in coders
        ],
        "absent": absent,
        "peers": {},
        "memory_picture": None,
        "sizes": [],
        "start_up": {},
        "folder": {},
        "ways": [],
        "speedup": {},
    }
    if folder.resolve().name.lower() == "kodak" and len(images) == 24 and crop is None:
        record["peers"] = {name: peer._asdict() for name, peer in peers.KODAK.items()}
    for part, fill in PARTS.items():
        if part not in skip:
            save(record)
            fill(record, images, coders, quick)
            record["minutes"] = round((time.perf_counter() - started) / 60, 1)
    return record


def _memory(
    record: dict[str, Any], images: Sequence[np.ndarray], coders: Sequence[Coder], quick: bool
) -> None:
    height, width = (512, 768) if quick else (4000, 6000)
    picture = memory.mosaic(images, height, width)
    record["memory_picture"] = [height, width]
    with _progress("memory", len(coders)) as step:
        for coder, entry in zip(coders, record["coders"], strict=True):
            try:
                entry["memory"] = memory.measure(coder, picture).to_json()
            except subprocess.CalledProcessError as error:
                why = f"its process ended with code {error.returncode}"
                record["absent"][f"memory of {coder.name}"] = why
            step()


def _sizes(
    record: dict[str, Any], images: Sequence[np.ndarray], coders: Sequence[Coder], quick: bool
) -> None:
    """The default model, from small to very large pictures."""
    coder = next(c for c in coders if c.name == DEFAULT_MODEL)
    sizes = [(256, 384), (512, 768)] if quick else _SIZES
    with _progress("sizes", len(sizes)) as step:
        for height, width in sizes:
            found = memory.measure(coder, memory.mosaic(images, height, width))
            record["sizes"].append({"height": height, "width": width, **found.to_json()})
            step()


def _start_up(
    record: dict[str, Any], images: Sequence[np.ndarray], coders: Sequence[Coder], quick: bool
) -> None:
    rounds = 2 if quick else 6
    with _progress("start-up", 5 * rounds) as step:
        record["start_up"] = processes.start_up(rounds, step)


def _folder(
    record: dict[str, Any], images: Sequence[np.ndarray], coders: Sequence[Coder], quick: bool
) -> None:
    some = images[:8]
    with _progress("folder", 2 * (len(some) + 1)) as step:
        found = processes.folder(some, step)
    record["folder"] = {name: f._asdict() for name, f in found.items()}


def _ways(
    record: dict[str, Any], images: Sequence[np.ndarray], coders: Sequence[Coder], quick: bool
) -> None:
    plain = [coder for coder in coders if coder.ours and not coder.effort]
    compared = [by_way(coder, way) for coder in plain for way in WAYS]
    with _progress("precision", len(images) * len(compared)) as step:
        points = rates.measure(compared, images, similarity=False, step=step)
    record["ways"] = [{"name": name, **p.to_json()} for name, (p,) in points.items()]


def _speedup(
    record: dict[str, Any], images: Sequence[np.ndarray], coders: Sequence[Coder], quick: bool
) -> None:
    if not reference_networks.is_available():
        record["absent"]["the published algorithm"] = "needs compressai's compiled coder"
        return
    picture = memory.mosaic(images, 512, 768)
    rounds = 1 if quick else 5
    steps = (rounds + 1) * (1 + len(WAYS))
    with _progress("published algorithm", len(speedup.PAPER) * steps) as step:
        for info in speedup.PAPER:
            made = speedup.measure(info, picture, rounds, step)
            record["speedup"][info.name] = {
                "bpp": made.bpp,
                "published": made.published._asdict(),
                "ours": {name: seconds._asdict() for name, seconds in made.ours.items()},
            }


PARTS = {
    "memory": _memory,
    "sizes": _sizes,
    "start-up": _start_up,
    "folder": _folder,
    "precision": _ways,
    "speedup": _speedup,
}


def _read(folder: Path, limit: int | None, crop: int | None) -> list[np.ndarray]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)[:limit]
    if not paths:
        raise click.UsageError(f"no pictures in {folder}")
    images = [np.array(Image.open(p).convert("RGB")) for p in paths]
    if crop is None:
        return images
    return [middle(image, crop) for image in images]


def _command(folder: Path, quick: bool, skip: tuple[str, ...], crop: int | None) -> str:
    words = ["python -m benchmarks", folder.resolve().name]
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
