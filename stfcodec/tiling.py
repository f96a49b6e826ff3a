"""Transforms of large pictures, tile by tile, in bounded memory.

Tiles overlap by more than any output can see, and start at multiples of 64 pixels so that attention
windows fall where they would without tiles: what is kept of each tile equals the untiled result up
to float rounding, and there are no seams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from stfcodec.models.entropy_model import DOWNSAMPLING_Y

CORE = 2048
"""Side of what is kept of a tile, in pixels; a multiple of 64."""


def analysis(run: Callable[[Tensor], Tensor], x: Tensor, margin: int, core: int = CORE) -> Tensor:
    """g_a by tiles. x: (1, 3, H, W), sides multiples of 64 -> (1, M, H/16, W/16).

    margin: overlap in pixels, a multiple of 64.
    """
    return _by_tiles(run, x, (1, DOWNSAMPLING_Y), margin, core)


def synthesis(run: Callable[[Tensor], Tensor], y: Tensor, margin: int, core: int = CORE) -> Tensor:
    """g_s by tiles. y: (1, M, h, w), sides multiples of 4 -> (1, 3, 16·h, 16·w)."""
    return _by_tiles(run, y, (DOWNSAMPLING_Y, 1), margin, core)


def _by_tiles(
    run: Callable[[Tensor], Tensor], x: Tensor, pixels: tuple[int, int], margin: int, core: int
) -> Tensor:
    """pixels: how many pixels one position of the input and one of the output spans."""
    p_in, p_out = pixels
    height, width = (side * p_in for side in x.shape[2:])
    if height <= core + 2 * margin and width <= core + 2 * margin:
        return run(x)
    out = torch.empty(0)
    for rows, seen_rows in _spans(height, core, margin):
        for cols, seen_cols in _spans(width, core, margin):
            tile = run(x[:, :, _slice(seen_rows, p_in), _slice(seen_cols, p_in)])
            if not out.numel():
                out = tile.new_empty(*tile.shape[:2], height // p_out, width // p_out)
            kept_rows = slice(rows.start - seen_rows.start, rows.stop - seen_rows.start)
            kept_cols = slice(cols.start - seen_cols.start, cols.stop - seen_cols.start)
            kept = tile[:, :, _slice(kept_rows, p_out), _slice(kept_cols, p_out)]
            out[:, :, _slice(rows, p_out), _slice(cols, p_out)] = kept
    return out


def _spans(side: int, core: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """What is kept and what is seen of each tile along one side, in pixels."""
    for start in range(0, side, core):
        stop = min(start + core, side)
        yield slice(start, stop), slice(max(start - margin, 0), min(stop + margin, side))


def _slice(span: slice, pixels: int) -> slice:
    return slice(span.start // pixels, span.stop // pixels)
