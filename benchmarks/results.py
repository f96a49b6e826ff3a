"""Measure the embedded weights on a folder of pictures and write the results down: `make results`.

Every point is taken from real streams: whole .stf bytes, and the decoded 8-bit picture against the
source. Bits per pixel and PSNR are means over the pictures. JPEG is coded in the same run as the
anchor of the BD-rate.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks import rates
from benchmarks.coders import EFFORT, JPEG_444, WHOLE_QUALITIES, ours
from benchmarks.page import fill
from benchmarks.rates import Point
from stfcodec.metrics import Curve, bd_rate
from stfcodec.models import locate, registry, weights
from stfcodec.train.loop import TRAINING

_PAGES = Path("README.md"), Path("docs/training.md")


@click.command()
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--adopt",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    multiple=True,
    metavar="RUN",
    help="First take the weights of this training run into the embedded folder.",
)
def main(pictures: Path, adopt: tuple[Path, ...]) -> None:
    """Measure every embedded model on PICTURES; rewrite MANIFEST.json and the tables it feeds."""
    for run in adopt:
        _adopt(run)
    paths = sorted(pictures.glob("*.png"))
    images = [np.asarray(Image.open(p).convert("RGB")) for p in paths]
    embedded = {
        info: path
        for info in registry.MODELS
        if info.variable_rate
        and (path := locate.embedded_folder() / locate.file_name(info, 1)).exists()
    }
    plain = {info: ours(info) for info in embedded}
    searched = {info: ours(info, EFFORT) for info in embedded}
    coders = [JPEG_444, *plain.values(), *searched.values()]
    points = rates.measure(coders, images, similarity=False)
    jpeg = rates.curve(points[JPEG_444.name])
    manifest = dict(locate.manifest())
    for info, path in embedded.items():
        effort = _measured(points[searched[info].name], jpeg)
        manifest[path.name] = {
            **manifest.get(path.name, {}),
            **_identity(info, path),
            "parameters": info.parameters,
            "pictures": f"{len(paths)} of {pictures.name}",
            **_measured(points[plain[info].name], jpeg),
            "with_effort": {"effort": EFFORT, **effort},
        }
    _write_manifest(manifest)
    for page in _PAGES:
        fill(page, "results", list(_results(manifest)))
        fill(page, "runs", list(_runs(manifest)))
    click.echo("\n".join(_results(manifest)))


def _adopt(run: Path) -> None:
    """Takes a training run's weights, and how they were trained, into the embedded folder."""
    record = json.loads((run / TRAINING).read_text(encoding="utf-8"))
    info = registry.by_name(record["settings"]["model"])
    path = locate.embedded_folder() / locate.file_name(info, 1)
    found = {"training": record, **_identity(info, run / path.name)}
    shutil.copyfile(run / path.name, path)
    _write_manifest({**locate.manifest(), path.name: found})


def _identity(info: registry.ModelInfo, path: Path) -> dict[str, str]:
    """What tells a weights file, and the streams made with it."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"sha256": sha256, "fingerprint": weights.load(info, path).fingerprint.hex()}


def _write_manifest(manifest: dict[str, Any]) -> None:
    path = locate.embedded_folder() / "MANIFEST.json"
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    locate.manifest.cache_clear()


def _measured(points: list[Point], jpeg: Curve) -> dict[str, Any]:
    return {
        "measured": [_entry(p) for p in points],
        "bd_rate_vs_jpeg_444_percent": round(bd_rate(jpeg, rates.curve(points)), 1),
    }


def _entry(point: Point) -> dict[str, float]:
    entry = point.to_json()
    del entry["ms_ssim"]
    times = {k: round(v, 2) for k, v in entry.items() if k.endswith("_s_per_mp")}
    return {**entry, **times}


def _runs(manifest: dict[str, Any]) -> Iterator[str]:
    yield "| weights | device | minutes | steps | megapixels seen | rate | batch | started from |"
    yield "|---" * 8 + "|"
    for name, entry in manifest.items():
        if run := entry.get("training"):
            s = run["settings"]
            yield (
                f"| `{name}` | {s['device']} | {run['minutes']} | {run['steps']} | "
                f"{run['megapixels']} | {s['rate']:g} | {s['batch']} × {s['crop']}², then "
                f"{s['decay_crop']}² | {run['started_from'] or 'photographs'} |"
            )


def _results(manifest: dict[str, Any]) -> Iterator[str]:
    head = " | ".join(f"q{q}" for q in WHOLE_QUALITIES)
    yield f"| model | {head} | BD-rate against JPEG 4:4:4 |"
    yield "|---" * (len(WHOLE_QUALITIES) + 2) + "|"
    for info in registry.MODELS:
        entry = manifest.get(locate.file_name(info, 1))
        if entry and info.variable_rate:
            effort = entry["with_effort"]
            yield _row(f"`{info.name}`", entry)
            yield _row(f"`{info.name}` `-e {effort['effort']}`", effort)


def _row(name: str, found: dict[str, Any]) -> str:
    cells = " | ".join(f"{p['bpp']:.3f} / {p['psnr']:.2f}" for p in found["measured"])
    return f"| {name} | {cells} | {found['bd_rate_vs_jpeg_444_percent']:+.1f} % |"


if __name__ == "__main__":
    main()
