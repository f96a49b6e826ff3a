"""The rate-distortion loss of the paper, per sample: λ·255²·MSE + bpp (eq. 1).

Also what depends on the quality of a sample: its λ, its weight in a batch, and how qualities are
drawn.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stfcodec.models.blocks import at_quality
from stfcodec.models.registry import LAMBDAS, MAX_QUALITY, MIN_QUALITY

_MIN_LIKELIHOOD = 1e-6
"""Bounds the bits of one symbol, so that a single improbable one does not dominate the batch."""
_BALANCE_EXPONENT = 0.4
"""Samples are weighted by λ^−0.4. The loss grows with λ, and unweighted the low rates would hardly
be trained."""

_FLAT_BLOCK = 16
"""Side in pixels of the blocks that `flat_block_mask` looks at."""


class SampleLoss(NamedTuple):
    """The loss of each sample and its parts, each (B,)."""

    loss: Tensor
    bpp: Tensor
    """Bits per pixel of y and z."""
    mse: Tensor
    """Mean squared error in squared 8-bit levels (0…255²)."""
    flat_mse: Tensor
    """The part of `mse` that lies on blocks of one colour."""


@cache
def _log_lambdas(device: torch.device) -> Tensor:
    """(6, 1). Cached because a copy to the device waits for it."""
    return torch.tensor(LAMBDAS).log()[:, None].to(device)


def lambda_at(quality: Tensor) -> Tensor:
    """λ of qualities in 1…6, as `registry.lambda_from_quality`: (B,) -> (B,)."""
    return at_quality(_log_lambdas(quality.device), quality)[:, 0].exp()


def stratified_qualities(batch: int, generator: torch.Generator) -> Tensor:
    """Random qualities (B,), one drawn from each of B equal parts of 1…6.

    Losses depend so much on quality that with independent qualities the gradients of successive
    steps would differ widely.
    """
    device = generator.device
    strata = torch.arange(batch, device=device)
    positions = (strata + torch.rand(batch, generator=generator, device=device)) / batch
    return MIN_QUALITY + (MAX_QUALITY - MIN_QUALITY) * positions


def balancing_weights(quality: Tensor) -> Tensor:
    """Weights of samples (B,) of these qualities, with mean 1 over the integer qualities."""
    mean = sum(lmbda**-_BALANCE_EXPONENT for lmbda in LAMBDAS) / len(LAMBDAS)
    return lambda_at(quality) ** -_BALANCE_EXPONENT / mean


class _Clamp(torch.autograd.Function):
    """Clamp to 0…1 whose gradient is that of the identity.

    A value outside the range then still moves back where the target lies inside. Where the target
    is the bound itself, the error after clamping, and with it the gradient, is zero.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def rate_distortion(out: dict[str, Any], x: Tensor, quality: Tensor) -> SampleLoss:
    """The loss of a model's output.

    out: what `CompressionModel.forward` returns: `x_hat` (B, 3, H, W), and `likelihoods` of y and
    z, (B, C, h, w) each. x: (B, 3, H, W) in 0…1, the source. quality: (B,) in 1…6.
    """
    pixels = x.shape[2] * x.shape[3]
    y_bits, z_bits = (
        -torch.log2(out["likelihoods"][name].float().clamp(min=_MIN_LIKELIHOOD)).sum((1, 2, 3))
        for name in ("y", "z")
    )
    # Decoding clamps the picture, too.
    error = _Clamp.apply(out["x_hat"].float()) - x
    # A norm passes over the pixels once in each direction and needs no particular memory format.
    mse, flat_mse = (
        torch.linalg.vector_norm(e, dim=(1, 2, 3)).square() * (255**2 / (3 * pixels))
        for e in (error, error * flat_block_mask(x))
    )
    bpp = (y_bits + z_bits) / pixels
    return SampleLoss(lambda_at(quality) * mse + bpp, bpp, mse, flat_mse)


def flat_block_mask(x: Tensor) -> Tensor:
    """1 where a block of 16×16 pixels has one colour, else 0.

    x: (B, 3, H, W), sides multiples of 16 -> (B, 1, H, W).
    """
    blocks = x.unflatten(3, (-1, _FLAT_BLOCK)).unflatten(2, (-1, _FLAT_BLOCK))
    is_flat = (blocks.amax((3, 5)) == blocks.amin((3, 5))).all(1, keepdim=True)
    return F.interpolate(is_flat.to(x.dtype), scale_factor=_FLAT_BLOCK)
