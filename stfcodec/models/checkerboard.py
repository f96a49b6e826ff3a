"""The checkerboard: the two passes in which the lite models code y.

At positions where row + column is even, the first pass codes the lower half of the channels, at the
other positions the upper half. The second pass codes the rest. So each pass of y (B, h, w, M) packs
into a map without gaps, (B, h, w, M/2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

STRIP = 1 << 15
"""Positions of a map that one strip holds at most, so that memory stays bounded."""

_HALO = 2
"""Rows by which the receptive field of the predictions reaches beyond an output. It is even, so
that a strip has the checkerboard of the whole map."""


def _odd(like: Tensor) -> Tensor:
    """Whether row + column is odd: (h, w, 1) bool for a map (B, h, w, C)."""
    rows, cols = (torch.arange(n, device=like.device) for n in like.shape[1:3])
    return ((rows[:, None] + cols) % 2 == 1)[:, :, None]


def pack(y: Tensor, i: int) -> Tensor:
    """The part of y that pass i (0 or 1) codes: (B, h, w, M) -> (B, h, w, M/2)."""
    halves = y.chunk(2, 3)
    return torch.where(_odd(y), halves[1 - i], halves[i])


def unpack(first: Tensor) -> Tensor:
    """The first pass in its places, 0 elsewhere: (B, h, w, M/2) -> (B, h, w, M)."""
    odd = _odd(first)
    return torch.cat([first.masked_fill(odd, 0), first.masked_fill(~odd, 0)], 3)


def merge(first: Tensor, second: Tensor) -> Tensor:
    """Both passes in their places: twice (B, h, w, M/2) -> (B, h, w, M)."""
    odd = _odd(first)
    return torch.cat([torch.where(odd, second, first), torch.where(odd, first, second)], 3)


def in_strips(run: Callable[..., tuple[Tensor, ...]], maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """run(*maps), strip by strip of rows where the maps are large.

    maps: (B, h, w, ·) each, and so is each tensor that `run` returns. With gradients enabled the
    maps stay whole.
    """
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
