"""Window attention, and the window attention module of the paper (§3.2).

`cpu_kernels.py` has faster forms of some operations.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models import cpu_kernels
from stfcodec.models.layers import Linear, conv1x1, conv3x3


def relative_position_index(window: int) -> Tensor:
    """The row of the bias table for each pair (query, key): (window², window²) int64."""
    position = torch.arange(window)
    rows, cols = torch.meshgrid(position, position, indexing="ij")
    coords = torch.stack([rows, cols]).flatten(1)
    offset = coords[:, :, None] - coords[:, None, :] + (window - 1)
    return offset[0] * (2 * window - 1) + offset[1]


def partition(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (B·H/window·W/window, window², C); H and W are multiples of window."""
    B, H, W, C = x.shape
    x = x.view(B, H // window, window, W // window, window, C)
    return x.transpose(2, 3).reshape(-1, window * window, C)


def unpartition(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of `partition`: (B·windows, window², C) -> (B, height, width, C)."""
    C = windows.shape[-1]
    x = windows.view(-1, height // window, width // window, window, window, C)
    return x.transpose(2, 3).reshape(-1, height, width, C)


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows, with a relative position bias (Swin, §3.2).

    mask: what is added to logits between opposite edges of the map. The published networks have
    −100. Raises ValueError where `heads` does not divide `dim`.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, window: int, heads: int, mask: float = -100.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads, self.window, self.mask = heads, window, mask
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, shifted: tuple[int, int] | None = None) -> Tensor:
        """x: (B·windows, tokens, dim), same out. shifted: for windows that are shifted by half a
        window, the numbers of windows in a column and in a row of the map.

        It uses plain matrix products, as fused attention is slower for windows this small.
        """
        n, tokens, dim = x.shape
        heads, width = self.heads, dim // self.heads
        # One copy moves the heads to the front. From there on everything is contiguous.
        parts = self.qkv(x).view(n, tokens, 3, heads, width).permute(2, 3, 0, 1, 4)
        q, k, v = parts.reshape(3, heads * n, tokens, width)
        bias = self._bias().to(q.dtype)
        products = torch.bmm(q, k.transpose(1, 2)).view(heads, n, tokens, tokens)
        logits = torch.add(bias[:, None], products, alpha=width**-0.5)
        if shifted is not None:
            _mask_edges(logits.view(heads, -1, *shifted, tokens, tokens), self.window, self.mask)
        weights = _softmax(logits)
        if shifted is not None and cpu_kernels.without_gradients(x):
            for edge in _edges(weights.view(heads, -1, *shifted, tokens, tokens)):
                cpu_kernels.drop_denormals(edge)
        y = torch.bmm(weights.view(-1, tokens, tokens), v)
        y = y.view(heads, n, tokens, width).permute(1, 2, 0, 3)
        return self.proj(y.reshape(n, tokens, dim))

    def _bias(self) -> Tensor:
        """The relative position bias (heads, queries, keys)."""
        return self.relative_position_bias_table.t()[:, self.relative_position_index]


@lru_cache(maxsize=8)
def _edge_masks(
    window: int, shift: int, mask: float, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """The masks of the parts of shifted windows that `_edges` returns.

    These windows hold both of two opposite edges of the map. Each mask is (window², window²)
    float32: `mask` where query and key come from different edges, else 0. It is added to logits.
    """
    far = torch.arange(window, device=device) >= window - shift
    rows, cols = far.repeat_interleave(window), far.repeat(window)
    below, beside = (a[:, None] ^ a for a in (rows, cols))
    return mask * below, mask * beside, mask * (below | beside)


def _edges(grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Views of the last row and of the last column of windows without the corner, and the corner.

    grid: (heads, pictures, rows, columns, queries, keys).
    """
    return grid[:, :, -1, :-1], grid[:, :, :-1, -1], grid[:, :, -1, -1]


def _mask_edges(logits: Tensor, window: int, mask: float) -> None:
    """Add the masks to the logits, in place. logits: as `grid` in `_edges`."""
    masks = _edge_masks(window, window // 2, mask, logits.device)
    for edge, added in zip(_edges(logits), masks, strict=True):
        edge += added.to(logits.dtype)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax along the last dimension."""
    if logits.dtype == torch.bfloat16 and logits.shape[-1] < 32:
        return cpu_kernels.softmax(logits)
    return logits.softmax(-1)


def windowed_attention(x: Tensor, attn: WindowAttention, window: int, shift: int) -> Tensor:
    """Shift the map, attend in its windows and shift it back. x: (B, H, W, C), same out.

    shift: 0 or half a window. Raises ValueError where H or W is not a multiple of `window`.
    """
    _, H, W, _ = x.shape
    if H % window or W % window:
        raise ValueError(f"feature map {H}x{W} is not a multiple of the window {window}")
    if not shift:
        return unpartition(attn(partition(x, window)), window, H, W)
    y = attn(partition(_roll(x, shift), window), (H // window, W // window))
    return _roll(unpartition(y, window, H, W), -shift)


def _roll(x: Tensor, shift: int) -> Tensor:
    """x (B, H, W, C) with its first `shift` rows and columns moved to the end; negative: back."""
    if torch.is_grad_enabled():
        return torch.roll(x, (-shift, -shift), (1, 2))
    return cpu_kernels.roll(x, shift)


class ResidualUnit(nn.Module):
    """GELU(x + bottleneck(x)), with a bottleneck of 1×1, 3×3, 1×1 convolutions at half width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.conv = nn.Sequential(
            conv1x1(dim, half), nn.GELU(), conv3x3(half, half), nn.GELU(), conv1x1(half, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(x) + x)


class ShiftedWindowAttention(nn.Module):
    """x + window attention(x), windows shifted by half their size; no norm, no MLP (paper §3.2)."""

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, window, heads)

    def forward(self, x: Tensor) -> Tensor:
        y = windowed_attention(x.permute(0, 2, 3, 1), self.attn, self.window, self.window // 2)
        return x + y.permute(0, 3, 1, 2)


class AttentionModule(nn.Module):
    """A spatial attention module of image codecs: x + a(x)·sigmoid(b(x)).

    a is `units` residual units, b the `attention` followed by as many residual units and a 1×1
    convolution. x: (B, dim, H, W), same out.
    """

    def __init__(self, dim: int, attention: nn.Module, units: int = 3) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(*(ResidualUnit(dim) for _ in range(units)))
        self.conv_b = nn.Sequential(
            attention, *(ResidualUnit(dim) for _ in range(units)), conv1x1(dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, self.conv_a(x), torch.sigmoid(self.conv_b(x)))


class WindowAttentionModule(AttentionModule):
    """The plug-in module of the paper (WAM, Fig. 4): attention in windows shifted by half.

    x: (B, dim, H, W), H and W multiples of `window`; same shape out. It is usable on its own:
    `WindowAttentionModule(192)` is the module of the published WACNN at ¼ resolution.
    """

    def __init__(self, dim: int, window: int = 8, heads: int = 8, units: int = 3) -> None:
        super().__init__(dim, ShiftedWindowAttention(dim, window, heads), units)
