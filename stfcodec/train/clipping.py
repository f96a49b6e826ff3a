"""Gradient clipping relative to a running mean of the gradient norm.

A fixed norm would not do: gradients of the highest qualities are many times longer than those of
the lowest.
"""

from __future__ import annotations

import torch
from torch import Tensor

SPIKE_FACTOR = 8.0
"""A gradient whose norm is this multiple of the running mean is dropped: one step along it costs
minutes of training."""
_MEAN_WEIGHT = 0.02
"""Weight of the newest norm in the running mean."""


class GradientClipper:
    """Clips gradients in place and keeps the running mean of their norm.

    All decisions are tensor operations, so nothing waits for the device.
    """

    def __init__(self, limit: float, device: torch.device, norm: float | None = None) -> None:
        """limit: gradients are clipped to this multiple of the running mean. norm: to this norm
        instead, and only those that are not finite are dropped."""
        self.limit, self.norm = limit, norm
        self.mean_norm = torch.zeros((), device=device)
        """Running mean of the norm of accepted gradients; 0 before the first."""

    @torch.no_grad()
    def __call__(self, gradients: Tensor) -> Tensor:
        """Clip `gradients`, of any shape, in place; zero them if they are a spike or not finite.

        Returns their norm before clipping, a scalar tensor.
        """
        norm = gradients.norm()
        mean_norm = torch.where(self.mean_norm > 0, self.mean_norm, norm)
        accepted = torch.isfinite(norm)
        if self.norm is None:
            accepted &= norm < SPIKE_FACTOR * mean_norm
            longest = self.limit * mean_norm
        else:
            longest = torch.full_like(norm, self.norm)
        gradients.mul_((longest / norm).clamp(max=1))
        gradients.masked_fill_(~accepted, 0)
        updated = torch.lerp(mean_norm, norm, _MEAN_WEIGHT)
        self.mean_norm.copy_(torch.where(accepted, updated, mean_norm))
        return norm
