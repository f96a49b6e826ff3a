"""Building blocks of WACNN and STF ("The Devil Is in the Details", CVPR 2022).

Feature maps are (B, C, H, W) unless a docstring says (B, H, W, C). The state-dict names of every
block equal those of the published networks, so that their checkpoints load unchanged.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

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
        self.register_buffer("bound", torch.tensor([bound]))

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return _LowerBoundFunction.apply(x, self.bound)
        return torch.maximum(x, self.bound)


class NonNegative(nn.Module):
    """Effective value of a stored parameter p: max(p, bound)² − 2⁻³⁶, at least `minimum`."""

    pedestal: Tensor

    def __init__(self, minimum: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("pedestal", torch.tensor([_PEDESTAL]))
        self.lower_bound = LowerBound((minimum + _PEDESTAL) ** 0.5)

    @staticmethod
    def store(value: Tensor) -> Tensor:
        """The stored parameter whose effective value is `value` (≥ 0)."""
        return torch.sqrt(torch.clamp(value + _PEDESTAL, min=_PEDESTAL))

    def forward(self, p: Tensor) -> Tensor:
        return self.lower_bound(p) ** 2 - self.pedestal


class GDN(nn.Module):
    """Generalised divisive normalisation (Ballé et al., 2016), or its inverse.

    root=True:  y = x / sqrt(β + γ·x²)   (published networks)
    root=False: y = x / (β + γ·|x|)      (Johnston et al., 2019; no square root, so cheaper)
    The inverse multiplies instead of dividing. x and y: (B, channels, H, W).
    """

    def __init__(self, channels: int, inverse: bool = False, root: bool = True) -> None:
        super().__init__()
        self.inverse, self.root = inverse, root
        self.beta_reparam = NonNegative(minimum=1e-6)
        self.gamma_reparam = NonNegative()
        self.beta = nn.Parameter(NonNegative.store(torch.ones(channels)))
        self.gamma = nn.Parameter(NonNegative.store(0.1 * torch.eye(channels)))

    def forward(self, x: Tensor) -> Tensor:
        beta = self.beta_reparam(self.beta).to(x.dtype)
        gamma = self.gamma_reparam(self.gamma)[:, :, None, None].to(x.dtype)
        norm = F.conv2d(x * x if self.root else x.abs(), gamma, beta)
        if self.root:
            norm = norm.sqrt() if self.inverse else norm.rsqrt()
            return x * norm
        return x * norm if self.inverse else x / norm


class Linear(nn.Linear):
    """nn.Linear on (…, m, n, in_features) -> (…, m, n, out_features).

    On CPUs and without gradients it runs as a 1×1 convolution, which adds the bias on its way, not
    beforehand.
    """

    def forward(self, x: Tensor) -> Tensor:
        if _codes_on_cpu(x):
            return _linear(x, self.weight, self.bias)
        return super().forward(x)


def _codes_on_cpu(x: Tensor) -> bool:
    """Whether to take the ways that are quicker on CPUs and have no gradients."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
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


def relative_position_index(window: int) -> Tensor:
    """(window², window²) int64: which row of the bias table serves the pair (query, key)."""
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
    """Inverse of `partition`: back to (B, height, width, C)."""
    C = windows.shape[-1]
    x = windows.view(-1, height // window, width // window, window, window, C)
    return x.transpose(2, 3).reshape(-1, height, width, C)


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a relative position bias (Swin, §3.2)."""

    relative_position_index: Tensor

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, shifted: tuple[int, int] | None = None) -> Tensor:
        """x: (B·windows, tokens, dim), same out. shifted: rows and columns of windows, if these
        lie shifted by half a window.

        Plain matrix products: for windows this small, fused attention takes longer.
        """
        if self.heads == 2 and _codes_on_cpu(x):
            return self._two_heads(x, shifted)
        n, tokens, dim = x.shape
        heads, width = self.heads, dim // self.heads
        # One copy puts the heads in front; from there on everything is contiguous.
        parts = self.qkv(x).view(n, tokens, 3, heads, width).permute(2, 3, 0, 1, 4)
        q, k, v = parts.reshape(3, heads * n, tokens, width)
        bias = self._bias().to(q.dtype)
        products = torch.bmm(q, k.transpose(1, 2)).view(heads, n, tokens, tokens)
        logits = torch.add(bias[:, None], products, alpha=width**-0.5)
        if shifted is not None:
            _mask_edges(logits.view(heads, -1, *shifted, tokens, tokens), self.window)
        weights = _softmax(logits)
        if shifted is not None and _codes_on_cpu(x):
            _drop_denormals(weights.view(heads, -1, *shifted, tokens, tokens))
        y = torch.bmm(weights.view(-1, tokens, tokens), v)
        y = y.view(heads, n, tokens, width).permute(1, 2, 0, 3)
        return self.proj(y.reshape(n, tokens, dim))

    def _two_heads(self, x: Tensor, shifted: tuple[int, int] | None) -> Tensor:
        """The same, for CPUs, without that copy: each query is there once a head, zero where the
        other head's channels are, and both heads go through one product. Keys run down the logits,
        queries along them, so that the softmax has long rows."""
        n, tokens, dim = x.shape
        own = torch.eye(2, dtype=x.dtype, device=x.device).repeat_interleave(dim // 2, 1)
        (w_q, w_k, w_v), (b_q, b_k, b_v) = (p.chunk(3) for p in (self.qkv.weight, self.qkv.bias))
        own_q = own * (dim // 2) ** -0.5
        q = _linear(x, (own_q[:, :, None] * w_q).flatten(0, 1), (own_q * b_q).flatten())
        k, v = _linear(x, w_k, b_k), _linear(x, w_v, b_v)
        bias = self._bias().to(q.dtype).permute(2, 1, 0).reshape(tokens, 2 * tokens)
        queries = q.view(n, 2 * tokens, dim).transpose(1, 2)
        logits = torch.baddbmm(bias.expand(n, -1, -1), k, queries)
        if shifted is not None:
            _mask_edges(_grid_of_two_heads(logits, shifted), self.window)
        weights = logits.softmax(1)
        if shifted is not None:
            _drop_denormals(_grid_of_two_heads(weights, shifted))
        y = torch.bmm(weights.transpose(1, 2), v).view(n, tokens, 2 * dim)
        return _linear(y, (self.proj.weight[:, None] * own).flatten(1), self.proj.bias)

    def _bias(self) -> Tensor:
        """(heads, queries, keys)"""
        return self.relative_position_bias_table.t()[:, self.relative_position_index]


@lru_cache(maxsize=8)
def _edge_masks(window: int, shift: int) -> tuple[Tensor, Tensor]:
    """What is added to the logits in the last row and in the last column of shifted windows, where
    the shift brought opposite edges of the map together: (window², window²) float32, −100 where
    query and key come from different edges, else 0."""
    far = torch.arange(window) >= window - shift
    rows, cols = far.repeat_interleave(window), far.repeat(window)
    below, beside = (-100.0 * (a[:, None] ^ a) for a in (rows, cols))
    return below, beside


def _edges(grid: Tensor) -> tuple[Tensor, Tensor]:
    """The last row and column of shifted windows. grid: (heads, pictures, rows, columns, queries,
    keys); queries and keys may change places."""
    return grid[:, :, -1], grid[:, :, :, -1]


def _grid_of_two_heads(t: Tensor, shifted: tuple[int, int]) -> Tensor:
    """(n, keys, 2·queries) as `_edges` wants it."""
    return t.view(-1, *shifted, t.shape[1], t.shape[1], 2).movedim(-1, 0)


def _mask_edges(logits: Tensor, window: int) -> None:
    """In place."""
    for edge, mask in zip(_edges(logits), _edge_masks(window, window // 2), strict=True):
        edge += mask.to(logits)


def _drop_denormals(weights: Tensor) -> None:
    """In place. What is left of a weight under the mask, exp(−100), is one of the smallest floats,
    with which CPUs take up to a hundred times as long."""
    for edge in _edges(weights):
        torch.threshold_(edge, 1e-30, 0)


def _softmax(logits: Tensor) -> Tensor:
    """Along the last dimension. Rows shorter than a vector register of bfloat16 take less time by
    way of float32."""
    if logits.dtype == torch.bfloat16 and logits.shape[-1] < 32:
        return logits.softmax(-1, dtype=torch.float32).to(logits.dtype)
    return logits.softmax(-1)


def windowed_attention(x: Tensor, attn: WindowAttention, window: int, shift: int) -> Tensor:
    """Shift, cut into windows, attend, put back. x: (B, H, W, C), H and W multiples of window;
    shift: 0 or half a window."""
    _, H, W, _ = x.shape
    if H % window or W % window:
        raise ValueError(f"feature map {H}x{W} is not a multiple of the window {window}")
    if not shift:
        return unpartition(attn(partition(x, window)), window, H, W)
    y = attn(partition(_roll(x, shift), window), (H // window, W // window))
    return _roll(unpartition(y, window, H, W), -shift)


def _roll(x: Tensor, shift: int) -> Tensor:
    """x (B, H, W, C), its first `shift` rows and columns moved to the end (negative: back)."""
    if torch.is_grad_enabled():
        return torch.roll(x, (-shift, -shift), (1, 2))
    rolled = torch.empty_like(x)  # written once; torch.roll goes over it twice
    pieces = (slice(-shift), slice(shift, None)), (slice(-shift, None), slice(shift))
    for (rows, from_rows), (cols, from_cols) in product(pieces, repeat=2):
        rolled[:, rows, cols] = x[:, from_rows, from_cols]
    return rolled


class ResidualUnit(nn.Module):
    """GELU(x + bottleneck(x)) with a 1×1, 3×3, 1×1 bottleneck at half width."""

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


class WindowAttentionModule(nn.Module):
    """The paper's plug-in block (WAM, Fig. 4): x + a(x)·sigmoid(b(x)), b with window attention.

    x: (B, dim, H, W) with H and W multiples of `window`; returns the same shape. Usable on its own:
    `WindowAttentionModule(192)` is the block of the published WACNN at ¼ resolution.
    """

    def __init__(self, dim: int, window: int = 8, heads: int = 8, units: int = 3) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(*(ResidualUnit(dim) for _ in range(units)))
        self.conv_b = nn.Sequential(
            ShiftedWindowAttention(dim, window, heads),
            *(ResidualUnit(dim) for _ in range(units)),
            conv1x1(dim, dim),
        )

    def forward(self, x: Tensor, lowered: Tensor | None = None) -> Tensor:
        """lowered: x as the branches take it, where x itself is of a higher precision."""
        seen = x if lowered is None else lowered
        a, gate = self.conv_a(seen), torch.sigmoid(self.conv_b(seen))
        return torch.addcmul(x, a.to(x.dtype), gate.to(x.dtype))


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def _as_weights(x: Tensor, layer: nn.Linear) -> Tensor:
    """x in the precision of a layer in bfloat16; for others, x."""
    return x.to(layer.weight.dtype) if layer.weight.dtype == torch.bfloat16 else x


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP, both residual (Liu et al., 2021). x: (B, H, W, dim).

    What the branches add up to keeps the precision of x; the branches have that of their weights.
    """

    def __init__(self, dim: int, heads: int, window: int, shift: int, mlp_ratio: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        seen = _as_weights(self.norm1(x), self.attn.qkv)
        x = x + windowed_attention(seen, self.attn, self.window, self.shift)
        return x + self.mlp(_as_weights(self.norm2(x), self.mlp.fc1))


class PatchEmbed(nn.Module):
    """(B, 3, H, W) -> (B, H/patch, W/patch, dim), normalised."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class PatchMerge(nn.Module):
    """(B, H, W, dim) -> (B, H/2, W/2, dim_out): 2×2 positions are concatenated, normalised, mixed.

    Concatenation order is (row, column) = (0,0), (1,0), (0,1), (1,1), as published.
    """

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = Linear(4 * dim, dim_out, bias=False)

    @staticmethod
    def concatenate(x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        x = x.view(B, H // 2, 2, W // 2, 2, C).permute(0, 1, 3, 4, 2, 5)
        return x.reshape(B, H // 2, W // 2, 4 * C)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(_as_weights(self.norm(self.concatenate(x)), self.reduction))


class PatchSplit(nn.Module):
    """(B, H, W, dim) -> (B, 2H, 2W, dim_out): normalised, mixed to 4·dim_out, pixel shuffle."""

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
    """`depth` Swin blocks, every second one shifted, then an optional change of resolution."""

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
