"""What of a picture is decoded: a part of it, and at what scale. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from operator import index

from stfcodec.errors import UsageError

DIVISORS = (1, 2, 4, 8, 16)
"""Pixels of a picture per decoded pixel, each way."""


@dataclass(frozen=True)
class View:
    """A part of a picture and a scale, such as `View((0, 0, 512, 512), Fraction(1, 2))`.

    Raises UsageError for a scale that is none of 1, 1/2, 1/4, 1/8 and 1/16, and for a crop that is
    not four whole numbers, or empty.
    """

    crop: tuple[int, int, int, int] | None = None
    """Left, top, width and height in pixels of the whole picture; None for all of it."""
    scale: Fraction | float = 1
    """Size of the decoded picture in units of the whole one's."""

    def __post_init__(self) -> None:
        if self.scale not in [Fraction(1, divisor) for divisor in DIVISORS]:
            raise UsageError(f"scale {self.scale}: choose 1/2, 1/4, 1/8 or 1/16")
        if self.crop is None:
            return
        try:
            crop = tuple(index(n) for n in self.crop)
        except TypeError:
            crop = ()
        if len(crop) != 4:
            raise UsageError(f"crop {self.crop}: give four whole numbers, X, Y, WIDTH and HEIGHT")
        object.__setattr__(self, "crop", crop)
        if min(self.crop[2:]) < 1 or min(self.crop[:2]) < 0:
            raise UsageError(f"{self}: a position is below 0, or a side below 1")

    def __str__(self) -> str:
        return "whole picture" if self.crop is None else f"crop {','.join(map(str, self.crop))}"

    @property
    def divisor(self) -> int:
        """Pixels of the picture per decoded pixel, each way."""
        return round(1 / self.scale)

    def spans(self, width: int, height: int) -> tuple[slice, slice]:
        """The rows and the columns of a picture of this size in pixels that are decoded.

        Raises UsageError if the crop reaches beyond the picture.
        """
        left, top, across, down = self.crop or (0, 0, width, height)
        if left + across > width or top + down > height:
            size = f"the picture of {width}x{height} pixels"
            raise UsageError(f"{self} reaches beyond {size}; choose a part within it")
        return slice(top, top + down), slice(left, left + across)

    def decoded(self, span: slice) -> slice:
        """From a span of a picture's pixels to the decoded pixels that cover it."""
        return slice(span.start // self.divisor, -(-span.stop // self.divisor))


WHOLE = View()


def smallest_scale(ratio: float) -> Fraction:
    """The smallest scale at which a picture is no smaller than wanted, or 1.

    ratio: how many times larger than wanted the whole picture is.
    """
    return Fraction(1, max((divisor for divisor in DIVISORS if divisor <= ratio), default=1))
