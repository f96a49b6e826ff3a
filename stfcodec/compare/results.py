"""What a comparison found.

An operating point is a quality of the first model. Its file has a size, and every other codec codes
the picture in a file of about that size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MATCHED = 0.02
"""A file within 2 % of the size of an operating point counts as of the same size."""


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A picture in a file that browsers show."""

    mime: str
    data: bytes


@dataclass(frozen=True)
class Scores:
    """How near a decoded picture comes to its source; None: not measured."""

    psnr: float
    """dB; infinite for an equal picture."""
    ms_ssim: float | None
    """0…1."""
    ssimulacra2: float | None
    """At most 100."""


@dataclass(frozen=True, eq=False)
class Result:
    """One picture coded by one codec."""

    codec: str
    ours: bool
    settings: str
    """What the codec was asked for, such as "-q 3" or "quality 54"."""
    size: int
    """Bytes of the whole file."""
    bpp: float
    encode_seconds: float
    decode_seconds: float
    image: ImageFile
    bits: np.ndarray | None
    """Bits at each latent position, (h, w); our models only."""
    scores: Scores


@dataclass(frozen=True, eq=False)
class Point:
    """An operating point: one picture in every codec at about the same size."""

    quality: float
    """Of the first model."""
    results: tuple[Result, ...]
    """Our models first."""

    def is_matched(self, result: Result) -> bool:
        """Whether a result has the size of the operating point."""
        return abs(result.size / self.results[0].size - 1) <= MATCHED


@dataclass(frozen=True, eq=False)
class Comparison:
    """One picture at every operating point."""

    name: str
    """As the user gave it; "-" is standard input."""
    width: int
    height: int
    source_bytes: int
    source: ImageFile
    points: tuple[Point, ...]
    notes: tuple[str, ...]
    """One line for each thing that reading the picture changed, or that could not be compared."""
