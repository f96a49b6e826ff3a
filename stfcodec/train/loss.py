"""The loss of the paper, per sample: λ·255²·MSE + bpp (eq. 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stfcodec.models.registry import LAMBDAS, MAX_QUALITY, MIN_QUALITY

_FLOOR = 1e-6
"""Likelihoods are floored here before the logarithm: one absurd symbol must not own the batch."""
_BALANCE = 0.4
"""Weight λ^−0.4: a sample's loss grows with λ, and low rates would be neglected otherwise."""


class SampleLoss(NamedTuple):
    """Each (B,)."""

    loss: Tensor
    bpp: Tensor
    mse: Tensor
    """In units of grey levels squared (0…255²)."""


def lambdas_of(quality: Tensor) -> Tensor:
    """λ at fractional qualities in 1…6, geometrically interpolated. (B,) -> (B,)"""
    table = torch.tensor(LAMBDAS, device=quality.device).log()
    lower = (quality.floor().long() - 1).clamp(0, len(LAMBDAS) - 2)
    return torch.lerp(table[lower], table[lower + 1], quality - 1 - lower).exp()


def opposite_qualities(batch: int, generator: torch.Generator) -> Tensor:
    """(2,) where the batch can be halved, else (1,): each half passes through transforms of its
    own. The two are opposite, so that every step sees both sides of the tilt."""
    quality = MIN_QUALITY + (MAX_QUALITY - MIN_QUALITY) * torch.rand(1, generator=generator)
    return quality if batch % 2 else torch.cat([quality, MIN_QUALITY + MAX_QUALITY - quality])


def rate_distortion(out: dict, x: Tensor, quality: Tensor) -> SampleLoss:
    """out: what a model's forward returns; x: (B, 3, H, W) in 0…1; quality: (B,)."""
    pixels = x.shape[2] * x.shape[3]
    y_bits, z_bits = (
        -torch.log2(out["likelihoods"][name].float().clamp(min=_FLOOR)).flatten(1).sum(1)
        for name in ("y", "z")
    )
    mse = (out["x_hat"].float() - x).square().flatten(1).mean(1) * 255**2
    bpp = (y_bits + z_bits) / pixels
    return SampleLoss(lambdas_of(quality) * mse + bpp, bpp, mse)


def balance(quality: Tensor) -> Tensor:
    """(B,) weights of the samples, with mean about 1 over the qualities."""
    weights = torch.tensor(LAMBDAS, device=quality.device) ** -_BALANCE
    return lambdas_of(quality) ** -_BALANCE / weights.mean()
