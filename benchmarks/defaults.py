"""What each program makes of pictures where its user gives no quality, beside our qualities.

The default quality of `stfcodec encode` is chosen by this.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import click
import numpy as np
from PIL import Image, features

import stfcodec
from benchmarks.options import folder_argument, model_option
from benchmarks.pictures import read_folder
from stfcodec.compare import others
from stfcodec.metrics import ssimulacra2
from stfcodec.models.registry import WHOLE_QUALITIES

Encode = Callable[[np.ndarray], bytes]

_DEFAULTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "cjpeg, quality 75": ("JPEG", "jpg", {"quality": 75}),
    "cwebp, quality 75": ("WEBP", "webp", {"quality": 75, "method": 4}),
    "avifenc, quality 60": (
        "AVIF",
        "avif",
        {"quality": 60, "speed": 6, "subsampling": "4:4:4"},
    ),
}
"""Program and its default quality: Pillow's name of the format and of the library, and the options
with which Pillow does the same."""


@click.command()
@folder_argument
@model_option
def main(folder: Path, model: str) -> None:
    """Print bits per pixel and SSIMULACRA2 of the pictures in FOLDER."""
    images = read_folder(folder)
    for name, (format_name, feature, options) in _DEFAULTS.items():
        if features.check(feature):
            _print(name, images, _pillow(format_name, options), others.decode)
    for quality in WHOLE_QUALITIES:
        encode = partial(stfcodec.encode, model=model, quality=quality)
        _print(f"{model}, quality {quality}", images, encode, _decode)


def _pillow(format_name: str, options: dict[str, Any]) -> Encode:
    def encode(pixels: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format_name, **options)
        return file.getvalue()

    return encode


def _decode(file: bytes) -> np.ndarray:
    return np.asarray(stfcodec.decode(file))


def _print(
    name: str,
    images: Sequence[np.ndarray],
    encode: Encode,
    decode: Callable[[bytes], np.ndarray],
) -> None:
    files = [encode(image) for image in images]
    bpp = fmean(
        8 * len(file) / image[..., 0].size for file, image in zip(files, images, strict=True)
    )
    found = [ssimulacra2(image, decode(file)) for file, image in zip(files, images, strict=True)]
    scores = [score for score in found if score is not None]
    spread = f"{min(scores):.0f} to {max(scores):.0f}, median {median(scores):.0f}"
    click.echo(f"{name}: {bpp:.3f} bpp, SSIMULACRA2 {spread}, {len(scores)} pictures")


if __name__ == "__main__":
    main()
