"""Results of the embedded weights, `make results`: on Kodak, those of MANIFEST.json and the docs.

Every point is taken from real streams: the bytes of whole .stf files, and decoded 8-bit pictures
against the source. Bits per pixel and PSNR are means over the pictures. JPEG, the anchor of the
BD-rate, is coded in the same run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks import ROOT, points
from benchmarks.coders import EFFORT, JPEG_444, model_coder
from benchmarks.markdown import replace_block
from benchmarks.options import EXISTING_FOLDER, folder_argument
from benchmarks.pictures import read_folder
from benchmarks.points import Point, psnr_curve
from benchmarks.published_curves import KODAK, published_set
from benchmarks.record import data_set_name, megapixels
from stfcodec.metrics import Curve, bd_rate
from stfcodec.models import locate, registry
from stfcodec.models.registry import WHOLE_QUALITIES

_RESULTS_PAGE = ROOT / "docs" / "models.md"
_RUNS_PAGE = ROOT / "docs" / "training.md"


@click.command()
@folder_argument
@click.option(
    "--adopt",
    type=EXISTING_FOLDER,
    multiple=True,
    metavar="RUN",
    help="Training run whose weights to embed first; may be repeated.",
)
def main(folder: Path, adopt: tuple[Path, ...]) -> None:
    """Measure every embedded model on the pictures in FOLDER, and print a table.

    On the whole of Kodak it also rewrites MANIFEST.json, and the tables of docs/models.md and of
    docs/training.md that it feeds. `python -m benchmarks` writes the page of any data set.
    """
    images = read_folder(folder)
    name, size = data_set_name(folder), megapixels(images)
    is_kodak = published_set(name, len(images), size, whole=True)[0] is KODAK
    if adopt and not is_kodak:
        raise click.UsageError("--adopt measures what it embeds on Kodak: give its folder")
    for run in adopt:
        _adopt(run)
    embedded = {
        info: path
        for info in registry.MODELS
        if info.variable_rate
        and (path := locate.embedded_folder() / locate.file_name(info, 1)).exists()
    }
    plain = {info: model_coder(info) for info in embedded}
    with_effort = {info: model_coder(info, EFFORT) for info in embedded}
    coders = [JPEG_444, *plain.values(), *with_effort.values()]
    found = points.measure(coders, images, with_ms_ssim=False)
    jpeg = psnr_curve(found[JPEG_444.name])
    manifest = dict(locate.manifest())
    for info, path in embedded.items():
        effort = _measured(found[with_effort[info].name], jpeg)
        manifest[path.name] = {
            **manifest.get(path.name, {}),
            **_identity(info, path),
            "parameters": info.parameters,
            "pictures": f"{len(images)} of {folder.name}",
            **_measured(found[plain[info].name], jpeg),
            "with_effort": {"effort": EFFORT, **effort},
        }
    if is_kodak:
        _write_manifest(manifest)
        replace_block(_RESULTS_PAGE, "results", list(_results(manifest)))
        replace_block(_RUNS_PAGE, "runs", list(_runs(manifest)))
    click.echo("\n".join(_results(manifest)))


def _adopt(run: Path) -> None:
    """Embed the weights of a training run, and put its record into the manifest."""
    from stfcodec.train.export import TRAINING_RECORD

    record = json.loads((run / TRAINING_RECORD).read_text(encoding="utf-8"))
    info = registry.by_name(record["settings"]["model"])
    path = locate.embedded_folder() / locate.file_name(info, 1)
    found = {"training": record, **_identity(info, run / path.name)}
    shutil.copyfile(run / path.name, path)
    _write_manifest({**locate.manifest(), path.name: found})


def _identity(info: registry.ModelInfo, path: Path) -> dict[str, str]:
    """SHA-256 of a weights file, and the fingerprint that its streams carry."""
    from stfcodec.models import weights

    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"sha256": sha256, "fingerprint": weights.load(info, path).fingerprint.hex()}


def _write_manifest(manifest: dict[str, Any]) -> None:
    path = locate.embedded_folder() / "MANIFEST.json"
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    locate.manifest.cache_clear()


def _measured(found: list[Point], jpeg: Curve) -> dict[str, Any]:
    return {
        "measured": [_entry(p) for p in found],
        "bd_rate_vs_jpeg_444_percent": round(bd_rate(jpeg, psnr_curve(found)), 1),
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
