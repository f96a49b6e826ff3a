"""Which part of each picture of a collection is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch

from stfcodec.errors import UsageError
from stfcodec.view import View

Below = Callable[[int], int]
"""Draws a number from 0 to below its argument."""


@dataclass(frozen=True)
class RandomCrop:
    """A square somewhere in each picture, such as `RandomCrop(256)`.

    At a scale below 1 its place is a multiple of the divisor, so that all squares have one size.
    Raises UsageError for a side that is no whole number from 1 on, and for a scale that `View`
    refuses.
    """

    side: int
    """Pixels of the whole picture."""
    scale: Fraction | float = 1
    """Size of the decoded picture in units of the whole one's: 1, 1/2, 1/4, 1/8 or 1/16."""

    def __post_init__(self) -> None:
        View((0, 0, self.side, self.side), self.scale)

    def view(self, width: int, height: int, draw: Below) -> View:
        """One crop of a picture of this size in pixels.

        Raises UsageError if the picture is smaller than the crop.
        """
        if min(width, height) < self.side:
            size = f"{width}x{height} pixels are less than the crop of {self.side}x{self.side}"
            raise UsageError(f"{size}: leave the picture out, or choose a smaller crop")
        unit = View(scale=self.scale).divisor
        left, top = (draw((n - self.side) // unit + 1) * unit for n in (width, height))
        return View((left, top, self.side, self.side), self.scale)


def view_of(part: View | RandomCrop, width: int, height: int, draw: Below) -> View:
    """What to decode of a picture of this size in pixels."""
    return part.view(width, height, draw) if isinstance(part, RandomCrop) else part


def below(bound: int) -> int:
    """Draw from torch's random numbers, for which DataLoader seeds its workers."""
    return int(torch.randint(bound, (), device="cpu"))
