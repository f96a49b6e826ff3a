"""Transforms of large pictures, tile by tile, in bounded memory.

A transform is a few steps. Each runs over the whole picture before the next one does, in tiles that
overlap by what this step alone can see: little where maps are fine and costly. Tiles start where
attention windows do, so what is kept of each tile equals the untiled result up to float rounding,
and there are no seams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from stfcodec.allocator import give_back_memory
from stfcodec.models.base import DOWNSAMPLING_Z, Step, round_up

CORE = 1024
"""Side of what is kept of a tile, in pixels; some steps have tiles several times as wide."""


def run(steps: Iterable[Step], x: Tensor, core: int) -> Tensor:
    """A whole transform. x: (1, C, H, W), what the first step takes; its sides span multiples of 64
    pixels. core: a multiple of 64."""
    for step in steps:
        x = _run_step(step, x, round_up(int(core * step.tiles), DOWNSAMPLING_Z))
    return x


def _run_step(step: Step, x: Tensor, core: int) -> Tensor:
    """core: in pixels."""
    p_in, p_out = step.spans
    height, width = (side * p_in for side in x.shape[2:])
    if height <= core + 2 * step.margin and width <= core + 2 * step.margin:
        return step.run(x)
    out: Tensor | None = None
    for rows, seen_rows in spans(height, core, step.margin):
        for cols, seen_cols in spans(width, core, step.margin):
            tile = step.run(x[:, :, _slice(seen_rows, p_in), _slice(seen_cols, p_in)])
            if out is None:
                channels = tile.shape[1]
                out = tile.new_empty(1, height // p_out, width // p_out, channels)
                out = out.permute(0, 3, 1, 2)  # channels last in memory
            kept_rows = slice(rows.start - seen_rows.start, rows.stop - seen_rows.start)
            kept_cols = slice(cols.start - seen_cols.start, cols.stop - seen_cols.start)
            kept = tile[:, :, _slice(kept_rows, p_out), _slice(kept_cols, p_out)]
            out[:, :, _slice(rows, p_out), _slice(cols, p_out)] = kept
    assert out is not None
    give_back_memory()  # the next step has tiles of other sizes
    return out


def spans(side: int, core: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """What is kept and what is seen of each tile along one side, in pixels."""
    for start in range(0, side, core):
        stop = min(start + core, side)
        yield slice(start, stop), slice(max(start - margin, 0), min(stop + margin, side))


def _slice(span: slice, pixels: int) -> slice:
    return slice(span.start // pixels, span.stop // pixels)
