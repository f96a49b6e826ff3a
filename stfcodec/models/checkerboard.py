"""The two passes in which the lite models code y: a checkerboard of positions and channels.

At a position where row + column is even the first pass has the lower half of the channels, at the
others the upper half; the second pass has the rest. So what a pass codes of y (B, h, w, M) is a map
without gaps, (B, h, w, M/2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STRIP = 1 << 15
"""Positions of a map that are worked on at a time when coding."""

_HALO = 2
"""Rows beyond which nothing bears on a prediction; even, so that the board stays as it is."""


def _odd(like: Tensor) -> Tensor:
    """(h, w, 1) bool for a map (B, h, w, C): where row + column is odd."""
    rows, cols = (torch.arange(n, device=like.device) for n in like.shape[1:3])
    return ((rows[:, None] + cols) % 2 == 1)[:, :, None]


def pack(y: Tensor, i: int) -> Tensor:
    """What pass i codes of y: (B, h, w, M) -> (B, h, w, M/2)."""
    halves = y.chunk(2, 3)
    return torch.where(_odd(y), halves[1 - i], halves[i])


def unpack(first: Tensor) -> Tensor:
    """What the first pass coded, in its places, and 0: (B, h, w, M/2) -> (B, h, w, M)."""
    odd = _odd(first)
    return torch.cat([first.masked_fill(odd, 0), first.masked_fill(~odd, 0)], 3)


def merge(first: Tensor, second: Tensor) -> Tensor:
    """Both passes (B, h, w, M/2) in their places: (B, h, w, M)."""
    odd = _odd(first)
    return torch.cat([torch.where(odd, second, first), torch.where(odd, first, second)], 3)


def by_rows(run: Callable[..., tuple[Tensor, ...]], maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """run(*maps), maps (B, h, w, ·) in and out, in strips of rows where they are large."""
    _, h, w, _ = maps[0].shape
    rows = max(2, STRIP // w // 2 * 2)
    if rows >= h or torch.is_grad_enabled():
        return run(*maps)
    out: tuple[Tensor, ...] = ()
    for start in range(0, h, rows):
        stop = min(start + rows, h)
        top, bottom = max(start - _HALO, 0), min(stop + _HALO, h)
        parts = run(*(m[:, top:bottom] for m in maps))
        out = out or tuple(p.new_empty(p.shape[0], h, *p.shape[2:]) for p in parts)
        for whole, part in zip(out, parts, strict=True):
            whole[:, start:stop] = part[:, start - top : stop - top]
    return out
