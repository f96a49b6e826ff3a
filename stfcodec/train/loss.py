"""The loss of the paper, per sample: λ·255²·MSE + bpp (eq. 1)."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stfcodec.models.registry import LAMBDAS, MAX_QUALITY, MIN_QUALITY

_FLOOR = 1e-6
"""Likelihoods are floored here before the logarithm: one absurd symbol must not own the batch."""
_BALANCE = 0.4
"""Weight λ^−0.4: a sample's loss grows with λ, and low rates would be neglected otherwise."""

_BLOCK = 16


class SampleLoss(NamedTuple):
    """Each (B,)."""

    loss: Tensor
    bpp: Tensor
    mse: Tensor
    """In units of grey levels squared (0…255²)."""
    flat: Tensor
    """The part of `mse` that lies on blocks of one colour."""


@cache
def _log_lambdas(device: torch.device) -> Tensor:
    """(6,): sent to the device once, as sending waits."""
    return torch.tensor(LAMBDAS).log().to(device)


def lambdas_of(quality: Tensor) -> Tensor:
    """λ at fractional qualities in 1…6, geometrically interpolated. (B,) -> (B,)"""
    table = _log_lambdas(quality.device)
    lower = (quality.floor().long() - 1).clamp(0, len(LAMBDAS) - 2)
    return torch.lerp(table[lower], table[lower + 1], quality - 1 - lower).exp()


def spread_qualities(batch: int, generator: torch.Generator) -> Tensor:
    """(B,) random qualities, one from each B-th part of 1…6: losses differ so much between them
    that qualities drawn apart would make one step's gradient unlike the next one's."""
    device = generator.device
    places = torch.arange(batch, device=device)
    shares = (places + torch.rand(batch, generator=generator, device=device)) / batch
    return MIN_QUALITY + (MAX_QUALITY - MIN_QUALITY) * shares


class _Clamped(torch.autograd.Function):
    """x within 0…1. Gradients pass: they are 0 where x and what it should be are both beyond an
    end, and lead back where only x is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def rate_distortion(out: dict, x: Tensor, quality: Tensor) -> SampleLoss:
    """out: what a model's forward returns; x: (B, 3, H, W) in 0…1; quality: (B,)."""
    pixels = x.shape[2] * x.shape[3]
    y_bits, z_bits = (
        -torch.log2(out["likelihoods"][name].float().clamp(min=_FLOOR)).sum((1, 2, 3))
        for name in ("y", "z")
    )
    # What goes beyond white or black is cut off in decoding. A norm goes over the pixels once each
    # way, whatever their layout.
    x_hat = _Clamped.apply(out["x_hat"].float())
    error = x_hat - x
    mse, flat = (
        torch.linalg.vector_norm(e, dim=(1, 2, 3)).square() * (255**2 / (3 * pixels))
        for e in (error, error * flat_blocks(x))
    )
    bpp = (y_bits + z_bits) / pixels
    return SampleLoss(lambdas_of(quality) * mse + bpp, bpp, mse, flat)


def flat_blocks(x: Tensor) -> Tensor:
    """1 where a block of 16×16 pixels has one colour, else 0. x: (B, 3, H, W) -> (B, 1, H, W)."""
    blocks = x.unflatten(3, (-1, _BLOCK)).unflatten(2, (-1, _BLOCK))
    flat = (blocks.amax((3, 5)) == blocks.amin((3, 5))).all(1, keepdim=True)
    return F.interpolate(flat.to(x.dtype), scale_factor=_BLOCK)


def balance(quality: Tensor) -> Tensor:
    """(B,) weights of the samples, with mean 1 over the whole qualities."""
    mean = sum(lmbda**-_BALANCE for lmbda in LAMBDAS) / len(LAMBDAS)
    return lambdas_of(quality) ** -_BALANCE / mean
