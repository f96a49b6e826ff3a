"""Refinement of the latents of one picture: what `encode --effort` spends its time on.

g_a gives latents at once, by what it learned from other pictures. The refinement moves the latents
of this picture along the gradient of its own loss, λ·255²·MSE + bpp. The loss is computed through
g_s and the float networks that the integer entropy networks replace; a soft rounding, which
hardens from iteration to iteration, takes the place of rounding. The refined latents are coded
like any others: a decoder sees no difference.

Sources: Yang, Bamler & Mandt, "Improving inference for neural image compression" (NeurIPS 2020);
for soft rounding, Agustsson & Theis, "Universally quantized neural compression" (NeurIPS 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from stfcodec import tiling
from stfcodec.allocator import give_back_memory
from stfcodec.geometry import DOWNSAMPLING_Y
from stfcodec.models.base import CompressionModel
from stfcodec.models.priors import ste_round
from stfcodec.models.registry import MAX_QUALITY, MIN_QUALITY, lambda_from_quality

CORE, MARGIN = 1024, 128
"""Pixels. The latents of tiles this wide are refined together; the loss of a tile also sees the
margin around it."""

_STEP_SIZES = 0.0056, 0.0225
"""Step size of the first iteration, times √iterations, at the lowest and at the highest quality;
geometric between them. The unit is quantisation steps per (bit per quantisation step).

At low quality most latents are 0 and larger steps overshoot. At high quality, where uniform
quantisation is optimal, the cost of a latent has the curvature 12 / ln 2 bits per quantisation
step², so the larger value is a fifth of Newton's step in 3 iterations and an eighth in 10. More
would overshoot, as the neighbouring latents move too."""

_PARTS = (1.0, 0.5, 0.25)
"""Of the way that the iterations go."""

_MAX_GRADIENT = 5.0
"""Bits per quantisation step. Gradients are clamped to it: between two integers the soft rounding
can be steep without meaning much."""

_FIRST_WIDTH, _LAST_WIDTH = 0.4, 0.2
"""Width of the soft rounding in the first and in the last iteration, in quantisation steps."""

_Cost = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]
"""(y after the gain, rounding) -> bits."""


def refine(
    model: CompressionModel,
    pixels: Tensor,
    size: tuple[int, int],
    y: Tensor,
    quality: float,
    iterations: int,
    device: torch.device,
) -> Tensor:
    """The latents y of one picture, refined. A tile that then costs more keeps its latents.

    pixels: uint8 or uint16 (H, W, 3), sides multiples of 64. size: the height and width of the
    picture in it; the padding beyond does not count. y: float32 (1, M, H/16, W/16) before the gain,
    as is the result. model: with its float networks, the transforms on `device` and all else on the
    CPU.
    """
    gain, inverse = model.gains(quality, y)
    y = y * gain
    for rows, seen_rows in _spans(pixels.shape[0]):
        for cols, seen_cols in _spans(pixels.shape[1]):
            bottom, right = min(size[0], seen_rows.stop), min(size[1], seen_cols.stop)
            x = pixels[seen_rows.start : bottom, seen_cols.start : right]
            cost = _cost(model, x.to(device), inverse, quality)
            seen = y[:, :, _latents(seen_rows), _latents(seen_cols)]
            kept = _latents(rows, seen_rows), _latents(cols, seen_cols)
            y[:, :, _latents(rows), _latents(cols)] = _refine_tile(
                cost, seen, kept, iterations, _step_size(quality)
            )
    give_back_memory()
    return y / gain


def _spans(side: int) -> Iterator[tuple[slice, slice]]:
    """`tiling.spans` of one side; a side that a single tile sees as a whole is not divided."""
    return tiling.spans(side, side if side <= CORE + 2 * MARGIN else CORE, MARGIN)


def _latents(span: slice, within: slice = slice(0, 0)) -> slice:
    """From a span of pixels to positions of y, counted from the start of `within`."""
    start, stop = (n - within.start for n in (span.start, span.stop))
    return slice(start // DOWNSAMPLING_Y, stop // DOWNSAMPLING_Y)


def _cost(model: CompressionModel, pixels: Tensor, inverse: Tensor, quality: float) -> _Cost:
    """The loss (paper, eq. 1) summed over a tile, in bits. pixels: uint8 or uint16 (h, w, 3)."""
    x = pixels.permute(2, 0, 1)[None].float()
    if pixels.dtype == torch.uint16:
        x = x / 257
    height, width = x.shape[2:]
    lam = lambda_from_quality(quality)

    def cost(y: Tensor, rounding: Callable[[Tensor], Tensor]) -> Tensor:
        y_hat, *likelihoods = model.estimate(y, quality, rounding)
        y_hat = (y_hat * inverse).to(x.device, memory_format=torch.channels_last)
        x_hat = model.synthesis(y_hat, quality)[:, :, :height, :width]
        error = (255 * x_hat.float() - x).square().sum() / 3
        return lam * error.cpu() - sum(p.log2().sum() for p in likelihoods)

    return cost


def _step_size(quality: float) -> float:
    low, high = _STEP_SIZES
    return low * (high / low) ** ((quality - MIN_QUALITY) / (MAX_QUALITY - MIN_QUALITY))


def _refine_tile(
    cost: _Cost, y: Tensor, kept: tuple[slice, slice], iterations: int, step_size: float
) -> Tensor:
    """The latents at `kept` of y (1, M, h, w), moved by gradient descent as far as that pays.

    Of the whole way, parts of it and none, the one is taken whose rounded result costs least: how
    far the latents can move before they overshoot differs from picture to picture.
    """
    refined = y.clone()
    for i in range(iterations):
        width = _FIRST_WIDTH * (_LAST_WIDTH / _FIRST_WIDTH) ** (i / max(1, iterations - 1))
        candidate = refined.requires_grad_()
        rounding = partial(_soft_round, width=width)
        (gradient,) = torch.autograd.grad(cost(candidate, rounding), candidate)
        refined = candidate.detach()
        size = step_size * ((1 - i / iterations) / iterations) ** 0.5
        clamped = gradient[(..., *kept)].clamp_(-_MAX_GRADIENT, _MAX_GRADIENT)
        refined[(..., *kept)] -= size * clamped
    with torch.inference_mode():
        candidates = [y, *(torch.lerp(y, refined, part) for part in _PARTS)]
        costs = [float(cost(candidate, ste_round)) for candidate in candidates]
    return candidates[costs.index(min(costs))][(..., *kept)]


def _soft_round(x: Tensor, width: float) -> Tensor:
    """Close to x for a large `width` and to round(x) for a small one; equal to both at integers."""
    floor = x.detach().floor()
    return floor + 0.5 + 0.5 * torch.tanh((x - floor - 0.5) / width) / math.tanh(0.5 / width)
