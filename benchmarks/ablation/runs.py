"""The runs of the study: every codec with every kind of attention, once for each seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BASES = {"wacnn": "WACNN", "hyperprior": "mean-scale hyperprior"}
"""The codecs, and what the page calls them."""
KINDS = {"window": "window (WAM)", "nonlocal": "non-local (NLAM)", "none": "none"}
"""The kinds of attention, and what the page calls them."""


@dataclass(frozen=True)
class Run:
    """One training: a codec with one kind of attention, and a seed."""

    base: str
    """A key of `BASES`."""
    attention: str
    """A key of `KINDS`."""
    seed: int

    @property
    def name(self) -> str:
        return f"{self.base}-{self.attention}-{self.seed}"

    @property
    def codec(self) -> str:
        return f"{self.base}-{self.attention}"


def all_runs(seeds: int) -> Iterator[Run]:
    """Every run, all kinds of a seed before the next seed: a broken-off study compares evenly."""
    for seed in range(seeds):
        for base in BASES:
            for attention in KINDS:
                yield Run(base, attention, seed)
