"""Layers of WACNN and STF ("The Devil Is in the Details", CVPR 2022): normalisation, convolutions.

`cpu_kernels.py` has faster forms of some of them. Feature maps are (B, C, H, W) unless a docstring
says (B, H, W, C). The state-dict names of every layer, here and in `attention.py` and `swin.py`,
equal those of the published networks, so that their checkpoints load unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models import cpu_kernels

_PEDESTAL = 2.0**-36
"""Offset of stored parameters of `NonNegative`, which keeps the gradient at 0 from vanishing."""


def at_least_float32(x: Tensor) -> Tensor:
    """x as float32, or as float64 if it is that. Any shape."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class _LowerBoundFunction(torch.autograd.Function):
    """max(x, bound). Below the bound, only gradients that raise x pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, bound = ctx.saved_tensors
        return grad * ((x >= bound) | (grad < 0)), None


class LowerBound(nn.Module):
    """Elementwise max(x, bound), any shape. Gradients can raise values from below the bound (Ballé
    et al., 2018)."""

    bound: Tensor

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([bound], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return _LowerBoundFunction.apply(x, self.bound)
        return torch.maximum(x, self.bound)


class NonNegative(nn.Module):
    """The effective value of a stored parameter p: max(p, bound)² − 2⁻³⁶, at least `minimum`."""

    pedestal: Tensor

    def __init__(self, minimum: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("pedestal", torch.tensor([_PEDESTAL], dtype=torch.float32))
        self.lower_bound = LowerBound((minimum + _PEDESTAL) ** 0.5)

    @staticmethod
    def store(value: Tensor) -> Tensor:
        """The stored parameter for an effective value (≥ 0)."""
        return torch.sqrt(torch.clamp(value + _PEDESTAL, min=_PEDESTAL))

    def forward(self, p: Tensor) -> Tensor:
        return self.lower_bound(p) ** 2 - self.pedestal


class GDN(nn.Module):
    """Generalised divisive normalisation (Ballé et al., 2016): x / sqrt(β + γ·x²).

    The inverse multiplies instead of dividing. x: (B, channels, H, W), same out.
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta_reparam = NonNegative(minimum=1e-6)
        self.gamma_reparam = NonNegative()
        self.beta = nn.Parameter(NonNegative.store(torch.ones(channels)))
        self.gamma = nn.Parameter(NonNegative.store(0.1 * torch.eye(channels)))

    def forward(self, x: Tensor) -> Tensor:
        beta = self.beta_reparam(self.beta).to(x.dtype)
        gamma = self.gamma_reparam(self.gamma)[:, :, None, None].to(x.dtype)
        norm = F.conv2d(x * x, gamma, beta)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


class Linear(nn.Linear):
    """nn.Linear in the precision of its input: (…, m, n, in_features) -> (…, m, n,
    out_features)."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if x.device.type == "cpu" and x.dtype == torch.bfloat16:
            return cpu_kernels.linear(x, weight, bias)
        return F.linear(x, weight, bias)


class Mlp(nn.Module):
    """Linear, GELU, linear. x: (…, dim), same out."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def conv1x1(c_in: int, c_out: int) -> nn.Conv2d:
    """1×1 convolution."""
    return nn.Conv2d(c_in, c_out, 1)


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution with zero padding."""
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1)


def conv5x5_down(c_in: int, c_out: int) -> nn.Conv2d:
    """Halve height and width (both must be even)."""
    return nn.Conv2d(c_in, c_out, 5, stride=2, padding=2)


def deconv5x5_up(c_in: int, c_out: int) -> nn.ConvTranspose2d:
    """Double height and width."""
    return nn.ConvTranspose2d(c_in, c_out, 5, stride=2, padding=2, output_padding=1)


class PixelDeconv(nn.ConvTranspose2d):
    """`deconv5x5_up` to few channels. x: (B, c_in, H, W) -> (B, c_out, 2·H, 2·W)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 5, stride=2, padding=2, output_padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(x, output_size)
        assert self.bias is not None
        return cpu_kernels.deconv5x5_up(x, self.weight, self.bias)


class ShuffledConv(nn.Conv2d):
    """3×3 convolution of pixel-shuffled x. x: (B, 4·c_in, H, W) -> (B, c_out, 2·H, 2·W)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(F.pixel_shuffle(x, 2))
        assert self.bias is not None
        return cpu_kernels.conv3x3_of_shuffled(x, self.weight, self.bias)


def subpel3x3(c_in: int, c_out: int) -> nn.Sequential:
    """Double height and width: 3×3 convolution to 4·c_out channels, then pixel shuffle."""
    return nn.Sequential(nn.Conv2d(c_in, 4 * c_out, 3, padding=1), nn.PixelShuffle(2))
