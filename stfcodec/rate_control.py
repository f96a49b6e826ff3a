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

_TOLERANCES = {"size": math.log(1.005), "bpp": math.log(1.005), "psnr": 0.01}
"""How far a result may stay on the allowed side of a target: half a percent of the bytes (as a
logarithm), or 0.01 dB."""

_MAX_PSNR = 1000.0
"""dB that stand for no error at all, whose PSNR is infinite."""

_SCALE = 1000
"""Qualities are tried in thousandths, as streams store them."""

_FINEST = 2
"""Thousandths. Between qualities this near to each other no other is tried."""


@dataclass(frozen=True)
class Target:
    """A size or a PSNR to aim at, such as `Target("size", 50_000)`.

    Of the files within a size, the one with the best quality is made; of the files that reach a
    PSNR, the smallest. Raises UsageError for another kind, and for a value that is not a positive
    finite number.
    """

    kind: Literal["size", "bpp", "psnr"]
    """size: at most so many bytes of the whole file. bpp: at most so many bits per pixel of the
    whole file. psnr: at least so many dB, over the colours of the decoded picture."""
    value: float
    """Bytes, bits per pixel, or dB."""

    def __post_init__(self) -> None:
        if self.kind not in _TOLERANCES:
            known = ", ".join(_TOLERANCES)
            raise UsageError(f"unknown target {self.kind!r}; choose one of: {known}")
        if not isinstance(self.value, int | float) or not 0 < self.value < math.inf:  # nor NaN
            raise UsageError(f"{self.kind} {self.value} is not a positive number")

    @property
    def is_ceiling(self) -> bool:
        """Whether results stay at or below the value (sizes) or at or above it (PSNR)."""
        return self.kind != "psnr"

    def __str__(self) -> str:
        unit = {"size": "bytes", "bpp": "bits a pixel", "psnr": "dB"}[self.kind]
        return f"{self.value:g} {unit}"


def encode_to_target(codec: Codec, picture: Picture, target: Target, effort: int = 0) -> Stream:
    """The best stream within a ceiling, or the smallest that reaches a floor, up to a tolerance.

    Encodes once for each quality tried. Raises StfError if even the lowest quality is too large or
    the highest not good enough, UsageError if the model has whole qualities only.
    """
    if not codec.info.variable_rate:
        raise UsageError(f"{codec.info.name} has whole qualities only: give one with -q")
    area = picture.pixels.shape[0] * picture.pixels.shape[1]
    tried: dict[float, tuple[Stream, float]] = {}

    def level(quality: float) -> float:
        """PSNR in dB, or the logarithm of the size, which rises more evenly than the size."""
        stream = codec.encode(picture, quality, effort)
        if target.kind == "psnr":
            from stfcodec.metrics import psnr  # numpy, which the command line need not load

            reached = min(psnr(picture.pixels, codec.decode(stream).pixels), _MAX_PSNR)
        else:
            reached = len(container.write(stream)) * (1 if target.kind == "size" else 8 / area)
        tried[quality] = stream, reached
        return math.log(reached) if target.is_ceiling else reached

    wanted = math.log(target.value) if target.is_ceiling else target.value
    found = _crossing(level, wanted, target.is_ceiling, _TOLERANCES[target.kind])
    if found is None:
        end = MIN_QUALITY if target.is_ceiling else MAX_QUALITY
        reached = Target(target.kind, tried[end][1])
        advice = "allow more, or shrink the picture" if target.is_ceiling else "ask for less"
        raise StfError(f"quality {end:g} makes it {reached}, {target} cannot be had: {advice}")
    return tried[found][0]


def _crossing(
    level: Callable[[float], float], wanted: float, below: bool, tolerance: float
) -> float | None:
    """The quality at which a rising `level` comes within `tolerance` of `wanted`, from below or
    from above. None if every quality lies on the other side.

    Interpolates between the two qualities that enclose the crossing, in thousandths. Each trial
    narrows the interval, so the loop ends for any `level`; one that does not rise gives one of its
    crossings.
    """
    low, high = round(MIN_QUALITY * _SCALE), round(MAX_QUALITY * _SCALE)
    at_low, at_high = level(MIN_QUALITY), level(MAX_QUALITY)
    if at_low >= wanted:
        return None if below and at_low > wanted else MIN_QUALITY
    if at_high <= wanted:
        return None if not below and at_high < wanted else MAX_QUALITY
    while high - low > _FINEST and (wanted - at_low if below else at_high - wanted) > tolerance:
        # The point where a straight line crosses, moved to the allowed side by half a tolerance,
        # and kept away from both ends so that either of them can move.
        share = (wanted - at_low + (-tolerance if below else tolerance) / 2) / (at_high - at_low)
        middle = low + round(min(max(share, 0.1), 0.9) * (high - low))
        middle = min(max(middle, low + 1), high - 1)
        at = level(middle / _SCALE)
        if at <= wanted if below else at < wanted:
            low, at_low = middle, at
        else:
            high, at_high = middle, at
    return (low if below else high) / _SCALE
