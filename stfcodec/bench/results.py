"""Measure the embedded weights on a folder of pictures and write the results down: `make results`.

Every point is taken from real streams: whole .stf bytes, and the decoded 8-bit picture against the
source. Bits per pixel and PSNR are means over the pictures. JPEG is coded in the same run as the
anchor of the BD-rate.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import click
import numpy as np
from PIL import Image

import stfcodec
from stfcodec.bench.metrics import bd_rate, psnr
from stfcodec.models import registry, store
from stfcodec.models.registry import ModelInfo
from stfcodec.train.loop import TRAINING

_QUALITIES = range(1, len(registry.LAMBDAS) + 1)
_JPEG_QUALITIES = (5, 10, 20, 35, 50, 70, 85, 95)
_PAGES = Path("README.md"), Path("docs/training.md")

Point = dict[str, float]


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
    jpeg = [_measure(images, *_jpeg(q)) for q in _JPEG_QUALITIES]
    manifest = dict(store.manifest())
    for info in registry.MODELS:
        name = store.file_name(info, 1)
        path = store.embedded_folder() / name
        if info.variable_rate and path.exists():
            points = [{"quality": q, **_measure(images, *_ours(info, q))} for q in _QUALITIES]
            manifest[name] = {
                **manifest.get(name, {}),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "parameters": info.parameters,
                "pictures": f"{len(paths)} of {pictures.name}",
                "measured": points,
                "bd_rate_vs_jpeg_444_percent": round(bd_rate(_curve(jpeg), _curve(points)), 1),
            }
    _write_manifest(manifest)
    for page in _PAGES:
        _fill(page, "results", list(_results(manifest)))
        _fill(page, "runs", list(_runs(manifest)))
    click.echo("\n".join(_results(manifest)))


def _adopt(run: Path) -> None:
    """Takes a training run's weights, and how they were trained, into the embedded folder."""
    record = json.loads((run / TRAINING).read_text(encoding="utf-8"))
    name = store.file_name(registry.by_name(record["settings"]["model"]), 1)
    shutil.copyfile(run / name, store.embedded_folder() / name)
    _write_manifest({**store.manifest(), name: {"training": record}})


def _write_manifest(manifest: dict[str, Any]) -> None:
    path = store.embedded_folder() / "MANIFEST.json"
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    store.manifest.cache_clear()


Coder = tuple[Callable[[np.ndarray], bytes], Callable[[bytes], Image.Image]]


def _ours(info: ModelInfo, quality: float) -> Coder:
    return (lambda a: stfcodec.encode(a, info.name, quality)), stfcodec.decode


def _jpeg(quality: int) -> Coder:
    """JPEG 4:4:4 at its best: optimised Huffman tables, progressive."""

    def encode(array: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        options = {"subsampling": 0, "optimize": True, "progressive": True}
        Image.fromarray(array).save(buffer, "JPEG", quality=quality, **options)
        return buffer.getvalue()

    return encode, lambda data: Image.open(io.BytesIO(data))


def _measure(
    images: list[np.ndarray],
    encode: Callable[[np.ndarray], bytes],
    decode: Callable[[bytes], Image.Image],
) -> Point:
    bpp, quality, encoding, decoding = [], [], [], []
    for image in images:
        start = time.perf_counter()
        data = encode(image)
        coded = time.perf_counter()
        picture = np.asarray(decode(data))
        decoding.append((time.perf_counter() - coded) / image[..., 0].size * 1e6)
        encoding.append((coded - start) / image[..., 0].size * 1e6)
        bpp.append(8 * len(data) / image[..., 0].size)
        quality.append(psnr(image, picture))
    return {
        "bpp": round(mean(bpp), 4),
        "psnr": round(mean(quality), 3),
        "encode_s_per_mp": round(median(encoding), 2),
        "decode_s_per_mp": round(median(decoding), 2),
    }


def _curve(points: list[Point]) -> list[tuple[float, float]]:
    return [(p["bpp"], p["psnr"]) for p in points]


def _fill(page: Path, mark: str, lines: list[str]) -> None:
    """Replaces what stands between a page's marks, if it has them."""
    text = page.read_text(encoding="utf-8")
    block = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    table = "".join(f"{line}\n" for line in lines)
    page.write_text(block.sub(lambda m: f"{m[1]}{table}{m[2]}", text), encoding="utf-8")


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
    head = " | ".join(f"q{q}" for q in _QUALITIES)
    yield f"| model | {head} | BD-rate against JPEG 4:4:4 |"
    yield "|---" * (len(_QUALITIES) + 2) + "|"
    for info in registry.MODELS:
        entry = manifest.get(store.file_name(info, 1))
        if entry and info.variable_rate:
            cells = " | ".join(f"{p['bpp']:.3f} / {p['psnr']:.2f}" for p in entry["measured"])
            yield f"| `{info.name}` | {cells} | {entry['bd_rate_vs_jpeg_444_percent']:+.1f} % |"


if __name__ == "__main__":
    main()
