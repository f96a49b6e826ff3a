"""Swin transformer blocks (Liu et al., 2021), and the stages of STF that consist of them.

Maps are (B, H, W, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stfcodec.models.attention import WindowAttention, windowed_attention
from stfcodec.models.layers import Linear, Mlp


def _as_weights(x: Tensor, layer: nn.Linear) -> Tensor:
    """x in bfloat16 where the layer's weights are; otherwise x as it is."""
    return x.to(layer.weight.dtype) if layer.weight.dtype == torch.bfloat16 else x


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP, both residual. x: (B, H, W, dim), same out.

    The residual sum has the precision of x, each branch that of its weights.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        normed = _as_weights(self.norm1(x), self.attn.qkv)
        x = x + windowed_attention(normed, self.attn, self.window, self.shift)
        return x + self.mlp(_as_weights(self.norm2(x), self.mlp.fc1))


class PatchEmbed(nn.Module):
    """Patches to vectors, normalised: (B, 3, H, W) -> (B, H/patch, W/patch, dim)."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class PatchMerge(nn.Module):
    """Halves the resolution: (B, H, W, dim) -> (B, H/2, W/2, dim_out).

    2×2 positions are concatenated, normalised and mapped linearly. The order is (row, column) =
    (0,0), (1,0), (0,1), (1,1), as published.
    """

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = Linear(4 * dim, dim_out, bias=False)

    @staticmethod
    def concatenate(x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H/2, W/2, 4·C)."""
        B, H, W, C = x.shape
        x = x.view(B, H // 2, 2, W // 2, 2, C).permute(0, 1, 3, 4, 2, 5)
        return x.reshape(B, H // 2, W // 2, 4 * C)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(_as_weights(self.norm(self.concatenate(x)), self.reduction))


class PatchSplit(nn.Module):
    """Doubles the resolution: (B, H, W, dim) -> (B, 2·H, 2·W, dim_out).

    Positions are normalised, mapped linearly to 4·dim_out channels and shuffled.
    """

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.reduction = Linear(dim, 4 * dim_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduction(_as_weights(self.norm(x), self.reduction))
        B, H, W, C = x.shape
        x = x.view(B, H, W, C // 4, 2, 2).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(B, 2 * H, 2 * W, C // 4)


class SwinStage(nn.Module):
    """`depth` Swin blocks, every second one with shifted windows, then an optional change of
    resolution, called `downsample` in either direction as in the published networks."""

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        window: int,
        mlp_ratio: float,
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, window, (i % 2) * (window // 2), mlp_ratio) for i in range(depth)
        )
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)
