"""Building blocks of WACNN and STF ("The Devil Is in the Details", CVPR 2022): normalisation,
linear layers, convolutions.

Feature maps are (B, C, H, W) unless a docstring says (B, H, W, C). The state-dict names of every
block, here and in `attention.py` and `swin.py`, equal those of the published networks, so that
their checkpoints load unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PEDESTAL = 2.0**-36


class _LowerBoundFunction(torch.autograd.Function):
    """max(x, bound) whose gradient still lets values below the bound climb back."""

    @staticmethod
    def forward(ctx, x: Tensor, bound: Tensor) -> Tensor:
        ctx.save_for_backward(x, bound)
        return torch.maximum(x, bound)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        x, bound = ctx.saved_tensors
        return grad * ((x >= bound) | (grad < 0)), None


class LowerBound(nn.Module):
    """Elementwise max(x, bound), any shape; trainable from below (Ballé et al., 2018)."""

    bound: Tensor

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([bound], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return _LowerBoundFunction.apply(x, self.bound)
        return torch.maximum(x, self.bound)


class NonNegative(nn.Module):
    """Effective value of a stored parameter p: max(p, bound)² − 2⁻³⁶, at least `minimum`."""

    pedestal: Tensor

    def __init__(self, minimum: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("pedestal", torch.tensor([_PEDESTAL], dtype=torch.float32))
        self.lower_bound = LowerBound((minimum + _PEDESTAL) ** 0.5)

    @staticmethod
    def store(value: Tensor) -> Tensor:
        """The stored parameter whose effective value is `value` (≥ 0)."""
        return torch.sqrt(torch.clamp(value + _PEDESTAL, min=_PEDESTAL))

    def forward(self, p: Tensor) -> Tensor:
        return self.lower_bound(p) ** 2 - self.pedestal


class GDN(nn.Module):
    """Generalised divisive normalisation (Ballé et al., 2016), x / sqrt(β + γ·x²), or its inverse,
    which multiplies instead. x: (B, channels, H, W), same out.
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
    """nn.Linear on (…, m, n, in_features) -> (…, m, n, out_features), as precise as its input.

    On CPUs it runs in bfloat16 as a 1×1 convolution, which adds the bias on its way, not before,
    and whose gradients take less time.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if x.device.type == "cpu" and x.dtype == torch.bfloat16:
            return linear(x, weight, bias)
        return F.linear(x, weight, bias)


def codes_on_cpu(x: Tensor) -> bool:
    """Whether to take the ways that are quicker on CPUs and have no gradients."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(…, m, n, in_features) -> (…, m, n, out_features) as a 1×1 convolution."""
    rows = x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2)
    mapped = F.conv2d(rows, weight[:, :, None, None], bias)
    return mapped.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


def conv1x1(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1)


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, stride, padding=1)


def conv5x5_down(c_in: int, c_out: int) -> nn.Conv2d:
    """Halves height and width (both must be even)."""
    return nn.Conv2d(c_in, c_out, 5, stride=2, padding=2)


def deconv5x5_up(c_in: int, c_out: int) -> nn.ConvTranspose2d:
    """Doubles height and width."""
    return nn.ConvTranspose2d(c_in, c_out, 5, stride=2, padding=2, output_padding=1)


class PixelDeconv(nn.ConvTranspose2d):
    """`deconv5x5_up` to few channels. x: (B, c_in, H, W) -> (B, c_out, 2·H, 2·W).

    Without gradients it runs as a 3×3 convolution to the four phases of each 2×2 block, which
    fill the vector registers that three channels leave empty.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 5, stride=2, padding=2, output_padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(x, output_size)
        assert self.bias is not None
        # Output 2m + r reads input m + t − 1 through tap 2·(2 − t) + r; tap 5 is none.
        taps = F.pad(self.weight, (0, 1, 0, 1)).unflatten(3, (3, 2)).unflatten(2, (3, 2))
        return _by_phases(x, taps.flip(2, 4).permute(1, 3, 5, 0, 2, 4).flatten(0, 2), self.bias)


class ShuffledConv(nn.Conv2d):
    """3×3 convolution of pixel-shuffled x. x: (B, 4·c_in, H, W) -> (B, c_out, 2·H, 2·W).

    Without gradients it runs at the lower resolution, to the four phases of each 2×2 block, like
    `PixelDeconv`.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(F.pixel_shuffle(x, 2))
        assert self.bias is not None
        phases = _phases(_phases(self.weight, 2), 3)  # rows, then columns
        return _by_phases(x, phases, self.bias)


def _by_phases(x: Tensor, phases: Tensor, bias: Tensor) -> Tensor:
    """3×3 convolution to the four phases (c_out·4, c_in, 3, 3) of each 2×2 block, put in place.
    x: (B, c_in, H, W) -> (B, c_out, 2·H, 2·W), channels last in memory; bias: (c_out,)."""
    c_out = len(bias)
    # With the colours innermost, a whole row of a block is copied at once.
    phases = phases.unflatten(0, (c_out, 4)).transpose(0, 1).flatten(0, 1)
    phases = phases.contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x, phases, bias.repeat(4), padding=1).permute(0, 2, 3, 1)
    B, H, W, _ = y.shape
    blocks = y.reshape(B, H, W, 2, 2 * c_out).transpose(2, 3)
    return blocks.reshape(B, 2 * H, 2 * W, c_out).permute(0, 3, 1, 2)


def _phases(weight: Tensor, dim: int) -> Tensor:
    """A kernel along `dim` as one between pairs of positions: (c_out, c_in, 3, 3) -> (2·c_out,
    2·c_in, 3, 3).

    Output 2m + r reads input 2m + r + i through tap i + 1: of the pair m + (r + i) // 2, the
    member (r + i) % 2.
    """
    c_out, c_in, *taps = weight.shape
    pairs = weight.new_zeros(c_out, 2, c_in, 2, *taps)
    for r in range(2):
        for i in (-1, 0, 1):
            pair, member = divmod(r + i, 2)
            target = pairs[:, r, :, member].select(dim, pair + 1)
            target.copy_(weight.select(dim, i + 1))
    return pairs.flatten(2, 3).flatten(0, 1)


def subpel3x3(c_in: int, c_out: int) -> nn.Sequential:
    """Doubles height and width: 3×3 convolution to 4·c_out channels, then pixel shuffle."""
    return nn.Sequential(nn.Conv2d(c_in, 4 * c_out, 3, padding=1), nn.PixelShuffle(2))
