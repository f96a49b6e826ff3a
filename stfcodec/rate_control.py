"""The quality at which a file has a wanted size, or the picture in it a wanted PSNR."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stfcodec import container
from stfcodec.errors import StfError, UsageError
from stfcodec.models.registry import MAX_QUALITY, MIN_QUALITY

if TYPE_CHECKING:
    from stfcodec.codec import Codec
    from stfcodec.container import Stream
    from stfcodec.imageio import Picture

_CLOSE = {"size": math.log(1.005), "bpp": math.log(1.005), "psnr": 0.01}
"""Near enough: half a percent of the bytes, a hundredth of a decibel."""

_EXACT = 1000.0
"""dB that stand for no error at all."""

_SCALE = 1000
"""Qualities are tried in thousandths, as streams store them."""

_FINEST = 2
"""Thousandths: qualities this near to each other are not told apart."""


@dataclass(frozen=True)
class Target:
    """At most so many bytes, or bits a pixel, of the whole file; or at least so many dB of PSNR
    over the colours."""

    kind: Literal["size", "bpp", "psnr"]
    value: float

    def __post_init__(self) -> None:
        if self.kind not in _CLOSE:
            raise UsageError(f"unknown target {self.kind!r}; choose one of: {', '.join(_CLOSE)}")
        if not isinstance(self.value, int | float) or not 0 < self.value < math.inf:  # nor NaN
            raise UsageError(f"{self.kind} {self.value} is not a positive number")

    @property
    def is_ceiling(self) -> bool:
        return self.kind != "psnr"

    def __str__(self) -> str:
        unit = {"size": "bytes", "bpp": "bits a pixel", "psnr": "dB"}[self.kind]
        return f"{self.value:g} {unit}"


def encode(codec: Codec, picture: Picture, target: Target, effort: int = 0) -> Stream:
    """The best stream within a ceiling, or the smallest that reaches a floor, nearly: see _CLOSE.

    Encodes once for each quality tried. Raises StfError where even the lowest quality is too large
    or the highest not good enough, UsageError where the model has whole qualities only.
    """
    if not codec.info.variable_rate:
        raise UsageError(f"{codec.info.name} has whole qualities only: give one with -q")
    area = picture.pixels.shape[0] * picture.pixels.shape[1]
    tried: dict[float, tuple[Stream, float]] = {}

    def level(quality: float) -> float:
        """What the target is about; of sizes the logarithm, which rises more evenly."""
        stream = codec.encode(picture, quality, effort)
        if target.kind == "psnr":
            from stfcodec.metrics import psnr  # numpy, which the command line need not load

            reached = min(psnr(picture.pixels, codec.decode(stream).pixels), _EXACT)
        else:
            reached = len(container.write(stream)) * (1 if target.kind == "size" else 8 / area)
        tried[quality] = stream, reached
        return math.log(reached) if target.is_ceiling else reached

    wanted = math.log(target.value) if target.is_ceiling else target.value
    found = _crossing(level, wanted, target.is_ceiling, _CLOSE[target.kind])
    if found is None:
        end = MIN_QUALITY if target.is_ceiling else MAX_QUALITY
        reached = Target(target.kind, tried[end][1])
        advice = "allow more, or shrink the picture" if target.is_ceiling else "ask for less"
        raise StfError(f"quality {end:g} makes it {reached}, {target} cannot be had: {advice}")
    return tried[found][0]


def _crossing(
    level: Callable[[float], float], wanted: float, below: bool, close: float
) -> float | None:
    """The quality at which a rising `level` is `wanted`, from below or from above: the last one
    tried on that side. None where there is none.

    Qualities are tried in thousandths, each between the two that enclose it so far, so that the
    search ends whatever `level` does; where it does not rise, at one of its crossings.
    """
    low, high = round(MIN_QUALITY * _SCALE), round(MAX_QUALITY * _SCALE)
    at_low, at_high = level(MIN_QUALITY), level(MAX_QUALITY)
    if at_low >= wanted:
        return None if below and at_low > wanted else MIN_QUALITY
    if at_high <= wanted:
        return None if not below and at_high < wanted else MAX_QUALITY
    while high - low > _FINEST and (wanted - at_low if below else at_high - wanted) > close:
        # Towards where a straight line crosses, a little beyond on the side that counts; well
        # inside, so that both ends move.
        share = (wanted - at_low + (-close if below else close) / 2) / (at_high - at_low)
        middle = low + round(min(max(share, 0.1), 0.9) * (high - low))
        middle = min(max(middle, low + 1), high - 1)
        at = level(middle / _SCALE)
        if at <= wanted if below else at < wanted:
            low, at_low = middle, at
        else:
            high, at_high = middle, at
    return (low if below else high) / _SCALE
