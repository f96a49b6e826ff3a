"""What the benchmarks compare: our models, and other codecs through Pillow, as `Coder` objects.

A coder turns a picture in memory, (H, W, 3) uint8, into the bytes of a whole file and back. It may
use every core, as it does by default.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image, features

import stfcodec
from stfcodec.allocator import keep_freed_memory
from stfcodec.models import locate, registry
from stfcodec.models.registry import WHOLE_QUALITIES, ModelInfo

PRECISIONS: dict[str, str | None] = {"as it comes": None, "float32 transforms": "float32"}
"""Precisions of the transforms that are compared: label, and value of STFCODEC_PRECISION."""

EFFORT = 3
"""The effort of `encode` at which a model is measured besides 0."""


@dataclass(frozen=True)
class Coder:
    """One codec with one set of options; qualities are on the codec's own scale."""

    name: str
    settings: str
    qualities: tuple[float, ...]
    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes], np.ndarray]
    ours: bool = False
    effort: int = 0

    @property
    def middle_quality(self) -> float:
        """The quality at which memory is measured and the coder is warmed up."""
        return self.qualities[len(self.qualities) // 2]


def model_coder(info: ModelInfo, effort: int = 0) -> Coder:
    """A variable-rate model with the weights that `encode` finds."""
    keep_freed_memory()  # as the commands do
    return Coder(
        name=info.name + (f" -e {effort}" if effort else ""),
        settings="stfcodec.encode" + (f", effort={effort}" if effort else ""),
        qualities=WHOLE_QUALITIES,
        encode=lambda array, quality: stfcodec.encode(
            array, model=info.name, quality=quality, effort=effort
        ),
        decode=lambda data: np.asarray(stfcodec.decode(data)),
        ours=True,
        effort=effort,
    )


@contextmanager
def computing_in(precision: str | None) -> Iterator[None]:
    """Set STFCODEC_PRECISION for what runs inside; None leaves it as it is."""
    variables = {} if precision is None else {"STFCODEC_PRECISION": precision}
    with patch.dict(os.environ, variables):
        yield


def with_precision(coder: Coder, label: str) -> Coder:
    """One of our coders in one of PRECISIONS, at its middle quality only."""

    def encode(array: np.ndarray, quality: float) -> bytes:
        with computing_in(PRECISIONS[label]):
            return coder.encode(array, quality)

    def decode(data: bytes) -> np.ndarray:
        with computing_in(PRECISIONS[label]):
            return coder.decode(data)

    name, qualities = f"{coder.name}, {label}", (coder.middle_quality,)
    return replace(coder, name=name, qualities=qualities, encode=encode, decode=decode)


def _pillow(
    name: str,
    format: str,
    qualities: tuple[float, ...],
    quality_option: Callable[[Any], dict[str, Any]] = lambda q: {"quality": q},
    **options: Any,
) -> Coder:
    def encode(array: np.ndarray, quality: float) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, format, **quality_option(quality), **options)
        return buffer.getvalue()

    listed = ", ".join(f"{k}={v!r}" for k, v in options.items())
    return Coder(name, f"Pillow {format}, {listed}", qualities, encode, _decode)


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


# Qualities span about 25 to 38 dB on photographs; JPEG's span more, because it is the anchor.
_jpeg = partial(
    _pillow,
    format="JPEG",
    qualities=(5, 10, 20, 35, 50, 70, 85, 95),
    optimize=True,
    progressive=True,
)
_avif = partial(_pillow, format="AVIF", subsampling="4:4:4")

JPEG_444 = _jpeg("JPEG 4:4:4", subsampling="4:4:4")
_JPEG_420 = _jpeg("JPEG 4:2:0", subsampling="4:2:0")
WEBP = _pillow("WebP", "WEBP", (1, 15, 40, 65, 82, 92), method=6)
_FOR_PSNR = {"tune": "psnr"}
AVIF = _avif("AVIF", qualities=(15, 30, 42, 54, 66, 80), speed=6)
_AVIF_FOR_PSNR = (
    _avif("AVIF psnr", qualities=(4, 15, 28, 42, 58, 78), speed=6, advanced=_FOR_PSNR),
    _avif("AVIF psnr slow", qualities=(4, 22, 40, 58, 78), speed=4, advanced=_FOR_PSNR),
)
_JPEG_2000 = _pillow(
    "JPEG 2000",
    "JPEG2000",
    (160, 90, 50, 30, 18, 11),
    lambda ratio: {"quality_layers": [ratio]},
    quality_mode="rates",
    irreversible=True,
    mct=1,
)
JPEG_XL = _pillow("JPEG XL", "JXL", (10, 25, 45, 65, 80, 90), effort=7)


def available() -> tuple[list[Coder], dict[str, str]]:
    """The coders that can run here, ours first; and by name, why each other one cannot."""
    found: list[Coder] = []
    absent: dict[str, str] = {}
    for info in registry.MODELS:
        if info.variable_rate and locate.status(info) != "missing":
            found.append(model_coder(info))
            if info.name == registry.DEFAULT_MODEL:
                found.append(model_coder(info, EFFORT))
        elif info.variable_rate:
            absent[info.name] = "no weights here"
    for feature, coders in (
        ("jpg", (JPEG_444, _JPEG_420)),
        ("webp", (WEBP,)),
        ("avif", (AVIF, *_AVIF_FOR_PSNR)),
        ("jpg_2000", (_JPEG_2000,)),
    ):
        if features.check(feature):
            found += coders
        else:
            absent |= {c.name: "this Pillow was built without it" for c in coders}
    if _has_jpeg_xl():
        found.append(JPEG_XL)
    else:
        absent[JPEG_XL.name] = "needs pip install pillow-jxl-plugin"
    return found, absent


def by_name(name: str) -> Coder:
    """The available coder of that name. Raises KeyError if there is none."""
    return {c.name: c for c in available()[0]}[name]


def _has_jpeg_xl() -> bool:
    try:
        import pillow_jxl  # noqa: F401  (registers itself with Pillow)
    except ImportError:
        return False
    return True
