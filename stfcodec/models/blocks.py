"""Building blocks of the lite models: residual blocks, scales that depend on quality, shuffles.

Maps are (B, H, W, C). Every layer computes in the precision of its input, whatever the precision of
its stored weights. The last layer of each residual branch starts at zero, so that a block starts as
the identity.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models.attention import WindowAttention, windowed_attention
from stfcodec.models.layers import Linear, Mlp
from stfcodec.models.registry import LAMBDAS

_MASK = -1e4
"""Of window attention. The −100 of Swin is too weak: logits of trained models reach it, and then
opposite edges see each other, those of a tile as well as those of a picture."""

_HEAD_CHANNELS = 32
"""Channels per attention head, which suits the matrix units of CPUs and GPUs."""


class Convolution(nn.Conv2d):
    """3×3 convolution of (B, H, W, C), padded with zeros, or by replication where `edges` is set.

    The transforms replicate, so that an area that is flat up to the border of a picture stays flat.
    """

    def __init__(
        self, c_in: int, c_out: int, stride: int = 1, groups: int = 1, edges: bool = False
    ) -> None:
        super().__init__(
            c_in,
            c_out,
            3,
            stride,
            padding=1,
            groups=groups,
            padding_mode="replicate" if edges else "zeros",
        )

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        y = self._conv_forward(x.permute(0, 3, 1, 2), weight, bias)
        return y.permute(0, 2, 3, 1)


class Norm(nn.LayerNorm):
    """Layer normalisation over channels, with a weight and no bias. x: (B, H, W, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), None, self.eps)


def at_quality(table: Tensor, quality: Tensor) -> Tensor:
    """A table (Q, C) of values at whole qualities, linearly interpolated at fractional ones.

    quality: (B,) in 1…Q. Returns (B, C).
    """
    position = quality.to(table.dtype) - 1
    lower = position.floor().long().clamp(0, table.shape[0] - 2)
    return torch.lerp(table[lower], table[lower + 1], (position - lower)[:, None])


class QualityScale(nn.Module):
    """Multiplies each channel by a learned factor of each quality, geometrically interpolated.

    x: (B, H, W, dim), quality: (B,) in 1…6; same shape out. After Cui et al. (CVPR 2021), who scale
    y.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(len(LAMBDAS), dim))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        return x * at_quality(self.log_scale, quality).exp()[:, None, None].to(x.dtype)


class DepthwiseMixer(nn.Module):
    """1×1, depthwise 3×3, GELU, 1×1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.enter = Linear(dim, dim)
        self.depthwise = Convolution(dim, dim, groups=dim, edges=True)
        self.leave = zeroed(Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.gelu(self.depthwise(self.enter(x))))


class AttentionMixer(nn.Module):
    """Attention in windows that are shifted by `shift` positions (Swin, §3.2)."""

    def __init__(self, dim: int, window: int, shift: int = 0) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.attn = WindowAttention(dim, window, dim // _HEAD_CHANNELS, _MASK)
        zeroed(self.attn.proj)

    def forward(self, x: Tensor) -> Tensor:
        return windowed_attention(x, self.attn, self.window, self.shift)


class Residual(nn.Module):
    """x + branch(norm(x)). x: (B, H, W, dim), same out."""

    def __init__(self, dim: int, branch: nn.Module) -> None:
        super().__init__()
        self.norm = Norm(dim)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(self.norm(x))


def block(dim: int, mixer: nn.Module) -> nn.Sequential:
    """One layer of a transformer: residual mixer of positions, then residual MLP."""
    mlp = Mlp(dim, 2 * dim)
    zeroed(mlp.fc2)
    return nn.Sequential(Residual(dim, mixer), Residual(dim, mlp))


_L = TypeVar("_L", nn.Linear, Convolution)


def zeroed(layer: _L) -> _L:
    """The layer itself, with weights and bias set to 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def shuffle(x: Tensor, r: int) -> Tensor:
    """(B, H, W, r·r·C) -> (B, r·H, r·W, C). The r·r positions vary slowest, in row-major order."""
    B, H, W, _ = x.shape
    return x.view(B, H, W, r, r, -1).transpose(2, 3).reshape(B, r * H, r * W, -1)


def unshuffle(x: Tensor, r: int) -> Tensor:
    """The inverse of `shuffle`."""
    B, H, W, C = x.shape
    return x.reshape(B, H // r, r, W // r, r, C).transpose(2, 3).reshape(B, H // r, W // r, -1)
