"""Transforms of large pictures, tile by tile, in bounded memory.

A transform is a sequence of stages. Each stage runs over the whole picture before the next one
does, in tiles that overlap by the receptive field of this stage alone: little where maps are fine
and large. Tiles start where attention windows start, so the kept part of each tile equals the
untiled result up to float rounding, and no tile borders are visible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor

from stfcodec.allocator import give_back_memory
from stfcodec.geometry import DOWNSAMPLING_Z, round_up
from stfcodec.models.base import Stage

CORE = 1024
"""Side of the kept part of a tile in pixels, for stages whose `tile_scale` is 1."""


def run(stages: Iterable[Stage], x: Tensor, core: int) -> Tensor:
    """A whole transform.

    x: (B, C, H, W), the input of the first stage; its sides span multiples of 64 pixels. core: a
    multiple of 64, in pixels.
    """
    for stage in stages:
        x = _run_stage(stage, x, round_up(int(core * stage.tile_scale), DOWNSAMPLING_Z))
    return x


def run_part(
    stages: Sequence[Stage], x: Tensor, core: int, rows: slice, cols: slice
) -> tuple[Tensor, slice, slice]:
    """A part of a transform that enlarges: what `run` gives of these rows and columns, and some
    beside them.

    x, core: as of `run`. rows, cols: in pixels. Returns the part, and the rows and columns that it
    covers. Memory and time follow the size of the part.
    """
    stride = stages[0].strides[0]
    rows, cols = (
        _seen(span, stages, side * stride)
        for span, side in zip((rows, cols), x.shape[2:], strict=True)
    )
    return run(stages, x[:, :, _slice(rows, stride), _slice(cols, stride)], core), rows, cols


def _seen(span: slice, stages: Sequence[Stage], side: int) -> slice:
    """What all stages together see of one side of a picture, from where attention windows start."""
    margin = sum(stage.margin for stage in stages)
    unit = math.lcm(DOWNSAMPLING_Z, *(stage.margin for stage in stages if stage.margin))
    stop = round_up(span.stop + margin, DOWNSAMPLING_Z)
    return slice(max(span.start - margin, 0) // unit * unit, min(stop, side))


def _run_stage(stage: Stage, x: Tensor, core: int) -> Tensor:
    """core: in pixels."""
    stride_in, stride_out = stage.strides
    height, width = (side * stride_in for side in x.shape[2:])
    if height <= core + 2 * stage.margin and width <= core + 2 * stage.margin:
        return stage.run(x)
    out: Tensor | None = None
    for rows, seen_rows in spans(height, core, stage.margin):
        for cols, seen_cols in spans(width, core, stage.margin):
            tile = stage.run(x[:, :, _slice(seen_rows, stride_in), _slice(seen_cols, stride_in)])
            if out is None:
                channels = tile.shape[1]
                out = tile.new_empty(len(x), height // stride_out, width // stride_out, channels)
                out = out.permute(0, 3, 1, 2)  # channels last in memory
            kept_rows = slice(rows.start - seen_rows.start, rows.stop - seen_rows.start)
            kept_cols = slice(cols.start - seen_cols.start, cols.stop - seen_cols.start)
            kept = tile[:, :, _slice(kept_rows, stride_out), _slice(kept_cols, stride_out)]
            out[:, :, _slice(rows, stride_out), _slice(cols, stride_out)] = kept
    assert out is not None
    give_back_memory()  # the next stage has tiles of other sizes
    return out


def spans(side: int, core: int, margin: int) -> Iterator[tuple[slice, slice]]:
    """The kept and the seen span of each tile along one side of a picture, in pixels.

    Kept spans are `core` wide and cover the side; seen spans are wider by `margin` at both ends,
    up to the borders of the picture.
    """
    for start in range(0, side, core):
        stop = min(start + core, side)
        yield slice(start, stop), slice(max(start - margin, 0), min(stop + margin, side))


def _slice(span: slice, stride: int) -> slice:
    """From a span of pixels to positions of a map with one position per `stride` pixels."""
    return slice(span.start // stride, span.stop // stride)
