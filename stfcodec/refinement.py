"""Latents that code better than those g_a finds: what `encode --effort` spends its time on.

g_a answers at once, by what it learned from other pictures. Here the latents of this picture are
moved along the gradient of its own λ·255²·MSE + bpp, through g_s and through the float networks
that the integer entropy path stands for, while rounding is a slope that steepens to a step. They
are coded like any others: a decoder sees no difference.

Sources: Yang, Bamler & Mandt, "Improving inference for neural image compression" (NeurIPS 2020);
for the slope, Agustsson & Theis, "Universally quantized neural compression" (NeurIPS 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from stfcodec import tiling
from stfcodec.allocator import give_back_memory
from stfcodec.models.base import DOWNSAMPLING_Y, CompressionModel
from stfcodec.models.priors import ste_round
from stfcodec.models.registry import MAX_QUALITY, MIN_QUALITY, lambda_from_quality

CORE, MARGIN = 1024, 128
"""Latents of tiles this wide move at a time, seen together with what is around them. Pixels."""

_PACE = 0.0056, 0.0225
"""How far a latent goes at the first step, in rounding steps for each bit that one would save,
times √steps; at the last it hardly moves. At the lowest and at the highest quality, geometric
between them: where most latents are 0, longer strides overshoot. Where steps are optimal at high
rate, the cost of a latent curves by 12 / ln 2 bits a step²: the latter is a fifth of Newton's way
in 3 steps, an eighth in 10, as the latents around it move too."""

_LIMIT = 5.0
"""Slopes count up to this many bits a rounding step: between two whole numbers they can be steep
without meaning much."""

_SOFT, _HARD = 0.4, 0.2
"""Width of the slope that rounding is at the first and at the last step, in rounding steps."""

_Cost = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]
"""(y after the gain, rounding) -> bits."""


def improve(
    model: CompressionModel,
    pixels: Tensor,
    size: tuple[int, int],
    y: Tensor,
    quality: float,
    steps: int,
    device: torch.device,
) -> Tensor:
    """y of one picture, moved by `steps` steps; a tile that then costs more stays as it was.

    pixels: uint8 (H, W, 3), sides multiples of 64, of which the first `size` (height, width) are
    the picture and the others do not count. y: float32 (1, M, H/16, W/16), before the gain, same
    out. model: with its float networks; its transforms are on `device`, all
    else on the CPU.
    """
    gain, inverse = model.gains(quality, y)
    y = y * gain
    for rows, seen_rows in _spans(pixels.shape[0]):
        for cols, seen_cols in _spans(pixels.shape[1]):
            bottom, right = min(size[0], seen_rows.stop), min(size[1], seen_cols.stop)
            x = pixels[seen_rows.start : bottom, seen_cols.start : right]
            cost = _cost(model, x.to(device), inverse, quality)
            seen = y[:, :, _latents(seen_rows), _latents(seen_cols)]
            free = _latents(rows, seen_rows), _latents(cols, seen_cols)
            y[:, :, _latents(rows), _latents(cols)] = _descend(
                cost, seen, free, steps, _pace(quality)
            )
    give_back_memory()
    return y / gain


def _spans(side: int) -> Iterator[tuple[slice, slice]]:
    """As `tiling.spans`; what a tile would see anyway is one."""
    return tiling.spans(side, side if side <= CORE + 2 * MARGIN else CORE, MARGIN)


def _latents(span: slice, within: slice = slice(0, 0)) -> slice:
    """From pixels to positions of y, counted from the start of `within`."""
    start, stop = (n - within.start for n in (span.start, span.stop))
    return slice(start // DOWNSAMPLING_Y, stop // DOWNSAMPLING_Y)


def _cost(model: CompressionModel, pixels: Tensor, inverse: Tensor, quality: float) -> _Cost:
    """The loss of the paper (eq. 1), summed over the pixels uint8 (h, w, 3) of a tile."""
    x = pixels.permute(2, 0, 1)[None].float()
    height, width = x.shape[2:]
    lam = lambda_from_quality(quality)

    def cost(y: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        y_hat, *likelihoods = model.estimate(y, quality, rounding)
        y_hat = (y_hat * inverse).to(x.device, memory_format=torch.channels_last)
        x_hat = model.synthesis(y_hat, quality)[:, :, :height, :width]
        error = (255 * x_hat.float() - x).square().sum() / 3
        return lam * error.cpu() - sum(p.log2().sum() for p in likelihoods)

    return cost


def _pace(quality: float) -> float:
    low, high = _PACE
    return low * (high / low) ** ((quality - MIN_QUALITY) / (MAX_QUALITY - MIN_QUALITY))


def _descend(cost: _Cost, y: Tensor, free: tuple[slice, slice], steps: int, pace: float) -> Tensor:
    """What is at `free` of y (1, M, h, w), moved."""
    moved = y.clone()
    for step in range(steps):
        width = _SOFT * (_HARD / _SOFT) ** (step / max(1, steps - 1))
        candidate = moved.requires_grad_()
        (gradient,) = torch.autograd.grad(cost(candidate, partial(_slope, width=width)), candidate)
        moved = candidate.detach()
        stride = pace * ((1 - step / steps) / steps) ** 0.5
        moved[(..., *free)] -= stride * gradient[(..., *free)].clamp_(-_LIMIT, _LIMIT)
    with torch.inference_mode():
        better = cost(moved, ste_round) < cost(y, ste_round)
    return (moved if better else y)[(..., *free)]


def _slope(x: Tensor, width: float) -> Tensor:
    """x where `width` is large, x rounded where it is small; equal to both at whole numbers."""
    floor = x.detach().floor()
    return floor + 0.5 + 0.5 * torch.tanh((x - floor - 0.5) / width) / math.tanh(0.5 / width)
