"""Other codecs to compare with: JPEG, WebP and AVIF through Pillow, each at any size of file.

Every codec has a level, a number that the size of the file rises with almost steadily. Levels are
finer than Pillow's qualities, whose steps change the size by up to 10 %.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image, features

from stfcodec.errors import StfError

_TOLERANCE = 0.01
"""How far a file may be from the wanted size: 1 %."""

_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
"""The quantisation tables of ITU-T T.81, Annex K, row by row, which JPEG encoders scale."""

_SHARPNESS = 7
"""The highest sharpness of libaom, at which it spends most bits."""


@dataclass(frozen=True)
class OtherCodec:
    """A codec in Pillow, with the options that the comparison uses."""

    name: str
    settings: str
    format: str
    """Pillow's name of the format."""
    feature: str
    """Pillow's name of the library, for `features.check`."""
    mime: str
    levels: tuple[float, float]
    steps: tuple[float, float]
    """The size of a file rises with the level in steps of the first size, and from one of those
    levels to the next in steps of the second."""
    options: Callable[[float], dict[str, Any]]
    """The options of `Image.save` at a level."""
    describe: Callable[[float], str]
    """The level in words."""

    def encode(self, image: Image.Image, level: float) -> bytes:
        """The whole file, with the ICC profile in `image.info` and nothing else of it."""
        buffer = io.BytesIO()
        bare = image.copy()
        bare.info = {}  # of which Pillow writes more into some formats than is asked for
        profile = image.info.get("icc_profile")
        bare.save(buffer, self.format, icc_profile=profile, **self.options(level))
        return buffer.getvalue()


def decode(file: bytes) -> np.ndarray:
    """The pixels of a picture file, uint8 (H, W, 3)."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


def _jpeg_options(level: float) -> dict[str, Any]:
    tables = [_scaled(table, math.exp(-level)) for table in (_LUMA, _CHROMA)]
    return {"qtables": tables, "subsampling": "4:2:0", "optimize": True, "progressive": True}


def _scaled(table: tuple[int, ...], factor: float) -> list[int]:
    return [min(max(round(entry * factor), 1), 255) for entry in table]


def _webp_options(level: float) -> dict[str, Any]:
    return {"quality": level, "method": 6}


def _avif_options(level: float) -> dict[str, Any]:
    # A level between two qualities is the higher one with a lower sharpness, which spends fewer
    # bits and is at most 3 % off the curve of rate and distortion of the highest, the default.
    quality = math.ceil(level)
    sharpness = round(_SHARPNESS * (1 - quality + level))
    return {
        "quality": quality,
        "speed": 6,
        "subsampling": "4:4:4",
        "advanced": {"sharpness": str(sharpness)},
    }


def _describe_avif(level: float) -> str:
    options = _avif_options(level)
    return "quality {quality}, sharpness {advanced[sharpness]}".format(**options)


JPEG = OtherCodec(
    name="JPEG",
    settings="libjpeg-turbo, 4:2:0, optimised and progressive, scaled standard tables",
    format="JPEG",
    feature="jpg",
    mime="image/jpeg",
    levels=(-3.0, 3.0),
    steps=(0.1, 0.002),
    options=_jpeg_options,
    describe=lambda level: f"tables × {math.exp(-level):.3g}",
)
WEBP = OtherCodec(
    name="WebP",
    settings="libwebp, method 6",
    format="WEBP",
    feature="webp",
    mime="image/webp",
    levels=(0.0, 98.0),
    steps=(1.0, 0.05),
    options=_webp_options,
    describe=lambda level: f"quality {level:g}",
)
AVIF = OtherCodec(
    name="AVIF",
    settings="libavif and libaom, 4:4:4, speed 6",
    format="AVIF",
    feature="avif",
    mime="image/avif",
    levels=(0.0, 94.0),
    steps=(1.0, 1 / _SHARPNESS),
    options=_avif_options,
    describe=_describe_avif,
)
CODECS = (JPEG, WEBP, AVIF)


def available() -> tuple[list[OtherCodec], list[OtherCodec]]:
    """The codecs that this Pillow has, and those that it lacks."""
    found = [codec for codec in CODECS if features.check(codec.feature)]
    return found, [codec for codec in CODECS if codec not in found]


@dataclass
class SizeMatcher:
    """Finds files of one picture in one codec by their size. It keeps the files that it makes."""

    codec: OtherCodec
    image: Image.Image
    _files: dict[float, bytes] = field(default_factory=dict)

    def match(self, size: int) -> tuple[float, bytes]:
        """Level and file of about `size` bytes: within 1 % where the codec has such a file, else
        the nearest that was found.

        Raises StfError if the codec cannot code the picture.
        """
        low, high = self.codec.levels
        for step in self.codec.steps:
            count = round((high - low) / step)
            levels = [round(low + n * step, 6) for n in range(count)] + [high]
            low, high = self._bracket(levels, size)
        level = min((low, high), key=lambda level: self._distance(level, size))
        return level, self._file(level)

    def _bracket(self, levels: Sequence[float], size: int) -> tuple[float, float]:
        """Two neighbours of `levels` that enclose the size. Twice the same level if it comes near
        enough, or lies at the end of the levels that is nearest."""
        low, high = 0, len(levels) - 1
        if len(self._file(levels[low])) >= size:
            return levels[low], levels[low]
        if len(self._file(levels[high])) <= size:
            return levels[high], levels[high]
        while high - low > 1:
            near = min((low, high), key=lambda n: self._distance(levels[n], size))
            if self._distance(levels[near], size) <= _TOLERANCE:
                return levels[near], levels[near]
            middle = low + self._share(levels[low], levels[high], size, high - low)
            if len(self._file(levels[middle])) <= size:
                low = middle
            else:
                high = middle
        return levels[low], levels[high]

    def _share(self, low: float, high: float, size: int, count: int) -> int:
        """Of `count` steps between two levels, after how many a line through the logarithms of
        their sizes reaches the wanted one; 1 to count − 1."""
        at_low, at_high = (math.log(len(self._file(level))) for level in (low, high))
        share = (math.log(size) - at_low) / (at_high - at_low)
        # Away from both ends, so that either can move.
        return min(max(round(min(max(share, 0.1), 0.9) * count), 1), count - 1)

    def _distance(self, level: float, size: int) -> float:
        return abs(math.log(len(self._file(level)) / size))

    def _file(self, level: float) -> bytes:
        if level not in self._files:
            try:
                self._files[level] = self.codec.encode(self.image, level)
            except (OSError, ValueError) as error:
                raise StfError(f"{self.codec.name} cannot code it: {error}") from error
        return self._files[level]
