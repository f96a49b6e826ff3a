"""The lite models: one skeleton whose bodies hold the blocks of either WACNN or STF.

    x ─ 8×8 patches to C ─ body (⅛) ─ 3×3/2 to M ─ attention (1⁄16) ─ 1×1 ─┐
    └─────────────── 16×16 blocks, linear ──────────────────────────────── + ─ y
    ŷ ─ attention (1⁄16) ─ 1×1, shuffle ─ body (⅛) ─ 1×1, shuffle ─ block (¼) ─ 3×3, shuffle ─┐
    └─────────────── 16×16 blocks, linear ────────────────────────────────────────────────── + ─ x̂

The linear path starts as the Karhunen-Loève transform of photographs and the network branch beside
it at zero, so that training starts from a block-transform codec. y is coded in two passes over a
checkerboard of positions and channels. The scale level of a symbol depends on the symbols of z and
of the first pass only, through a small network in integers (`lite_integer.py`). Means are floats:
an error in the last bits of a mean moves ŷ by as much and changes no symbol.

Maps are (B, H, W, C) in this file, except pictures, latents and hyper-latents, which are (B, C, H,
W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models.base import CompressionModel, Stage
from stfcodec.models.blocks import (
    AttentionMixer,
    Convolution,
    DepthwiseMixer,
    QualityScale,
    Residual,
    at_quality,
    block,
    shuffle,
    unshuffle,
    zeroed,
)
from stfcodec.models.checkerboard import in_strips, merge, pack, unpack
from stfcodec.models.coding import SymbolCoder
from stfcodec.models.layers import Linear, LowerBound
from stfcodec.models.lite_entropy import MeanNetwork, ScaleNetwork
from stfcodec.models.lite_integer import IntegerScales
from stfcodec.models.priors import (
    LOG_SCALE_STEP,
    SCALE_LEVELS,
    SCALE_MIN,
    EntropyBottleneck,
    add_uniform_noise,
    ste_round,
)
from stfcodec.models.registry import LAMBDAS, LiteWidths

PATCH, BLOCK = 8, 16
"""Sides in pixels of the patches that g_a embeds and of the blocks of the linear path."""

_MARGIN = 128
"""Pixels by which the receptive field of a transform reaches beyond an output, at most: half a
window per attention block, and the convolutions. A multiple of what an attention window spans."""


def wacnn_body(dim: int, depth: int, window: int) -> nn.Sequential:
    """Depthwise-convolution blocks with one window attention in the middle."""
    blocks: list[nn.Module] = [block(dim, DepthwiseMixer(dim)) for _ in range(depth)]
    blocks.insert(depth // 2, Residual(dim, AttentionMixer(dim, window)))
    return nn.Sequential(*blocks)


def stf_body(dim: int, depth: int, window: int) -> nn.Sequential:
    """Swin blocks; every second one has shifted windows."""
    return nn.Sequential(
        *(block(dim, AttentionMixer(dim, window, i % 2 * window // 2)) for i in range(depth))
    )


BODIES = {"wacnn": wacnn_body, "stf": stf_body}
"""The body of each `ModelInfo.family`."""


class BlockTransform(nn.Linear):
    """A linear transform of 16×16 blocks, in float32 and without bias.

    x: (B, h, w, in_features) -> (B, h, w, out_features). The stored weights are √768 times larger
    than the effective ones. The entries of an orthonormal transform are so small that updates of
    the optimiser, which have the same size for all weights, would disturb it.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * _BLOCK_SCALE)

    def set(self, matrix: Tensor) -> None:
        """Set the effective weights to matrix (out_features, in_features)."""
        with torch.no_grad():
            self.weight.copy_(matrix / _BLOCK_SCALE)


_BLOCK_SCALE = (3 * BLOCK**2) ** -0.5

_RESIDUAL_SCALE = 1 / 32
"""Factor of g_s's network branch: about the standard deviation of what it adds to the picture."""


class Analysis(nn.Module):
    """g_a: pictures (B, 3, H, W) in 0…1 -> y (B, M, H/16, W/16), float32."""

    def __init__(self, family: str, w: LiteWidths) -> None:
        super().__init__()
        C, M = w.channels, w.latents
        self.linear = BlockTransform(3 * BLOCK**2, M)
        self.embed = Linear(3 * PATCH**2, C)
        self.scale_in = QualityScale(C)
        self.body = BODIES[family](C, w.analysis_depth, w.window)
        self.scale_out = QualityScale(C)
        self.down = Convolution(C, M, stride=2, edges=True)
        self.attention = Residual(M, AttentionMixer(M, w.coarse_window))
        self.last = zeroed(Linear(M, M))
        self.log_spread = nn.Parameter(torch.zeros(M))
        """Logarithm of the factor of each latent channel of the network branch."""

    def forward(self, x: Tensor, quality: Tensor, precision: torch.dtype) -> Tensor:
        """quality: (B,). precision: of the network branch."""
        patches = unshuffle(x.permute(0, 2, 3, 1) - 0.5, PATCH)
        branch = self.scale_in(self.embed(patches.to(precision)), quality)
        branch = self.scale_out(self.body(branch), quality)
        branch = self.last(self.attention(self.down(branch)))
        linear = self.linear(unshuffle(patches, BLOCK // PATCH))
        return (linear + branch.float() * self.log_spread.exp()).permute(0, 3, 1, 2)


class Synthesis(nn.Module):
    """g_s: ŷ (B, M, h, w) -> pictures (B, 3, 16·h, 16·w), not clamped, float32."""

    def __init__(self, family: str, w: LiteWidths) -> None:
        super().__init__()
        C, M, T = w.channels, w.latents, w.fine_channels
        self.log_spread = nn.Parameter(torch.zeros(M))
        """Logarithm of the divisor of each latent channel at the input of the network branch, which
        gives all channels a similar magnitude."""
        self.linear = BlockTransform(M, 3 * BLOCK**2)
        self.attention = Residual(M, AttentionMixer(M, w.coarse_window))
        self.up = Linear(M, 4 * C)
        self.scale_in = QualityScale(C)
        self.body = BODIES[family](C, w.synthesis_depth, w.window)
        self.up_fine = Linear(C, 4 * T)
        self.fine = Residual(T, DepthwiseMixer(T))
        self.scale_out = QualityScale(T)
        self.last = zeroed(Convolution(T, 3 * 16, edges=True))

    def forward(self, y_hat: Tensor, quality: Tensor, precision: torch.dtype) -> Tensor:
        """quality: (B,). precision: of the network branch."""
        y_hat = y_hat.permute(0, 2, 3, 1)
        branch = self.attention((y_hat * torch.exp(-self.log_spread)).to(precision))
        branch = self.scale_in(shuffle(self.up(branch), 2), quality)
        branch = shuffle(self.up_fine(self.body(branch)), 2)
        branch = self.last(self.scale_out(self.fine(branch), quality))
        linear = shuffle(self.linear(y_hat), 4) + 0.5
        return shuffle(linear.add(branch, alpha=_RESIDUAL_SCALE), 4).permute(0, 3, 1, 2)

    def block_means(self, y_hat: Tensor, divisor: int) -> Tensor:
        """Means of divisor² pixels of what the linear path alone gives: (B, 3, 16·h/divisor, …).

        divisor: 8 or 16.
        """
        blocks = self.linear(torch.eye(self.linear.in_features, device=y_hat.device))
        blocks = shuffle(shuffle(blocks[:, None, None], 4), 4).permute(0, 3, 1, 2)
        means = F.avg_pool2d(blocks, divisor)
        return F.conv_transpose2d(y_hat, means, stride=BLOCK // divisor) + 0.5


_LINEAR_PREVIEWS = ("wacnn",)
"""Families of which the linear path alone gives 1/8 and 1/16 of a picture. The branch of the others
moves the means of flat areas by several levels (docs/performance.md)."""


class LiteModel(CompressionModel):
    """WACNN or STF in the lite layout, for every quality with one set of weights.

    The quality is an argument of each call, and coding changes nothing in the model.
    """

    integer_replaces = ("scales",)

    def __init__(self, family: str, widths: LiteWidths) -> None:
        super().__init__()
        M, N, Q = widths.latents, widths.hyper_latents, len(LAMBDAS)
        self.family = family
        self.widths = widths
        self.g_a = Analysis(family, widths)
        self.g_s = Synthesis(family, widths)
        self.log_gain = nn.Parameter(torch.zeros(Q, M))
        self.log_inverse = nn.Parameter(torch.zeros(Q, M))
        self.log_spread = nn.Parameter(torch.zeros(M))
        """Logarithm of each latent channel's unit in the entropy model: networks take latents, and
        give means, in units of it."""
        self.h_a = nn.Sequential(
            Convolution(M, N), Convolution(N, N, stride=2), Convolution(N, N, stride=2)
        )
        self.means = MeanNetwork(widths)
        self.scales = ScaleNetwork(widths)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.row_bound = LowerBound(0.0)  # of scale levels; checkpoints have this name

    @property
    def transforms(self) -> frozenset[str]:
        return frozenset({"g_a", "g_s"})

    def new_integer(self) -> IntegerScales:
        return IntegerScales(self.widths, SCALE_LEVELS)

    def dequantise(self) -> None:
        assert self.integer is not None
        self.integer.dequantise_into(self.scales)

    # ---------------------------------------------------------------------- transforms

    def analysis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        def run(x: Tensor) -> Tensor:
            return self.g_a(x, _qualities(quality, x), self.precision)

        return (Stage(run, (1, BLOCK), _MARGIN, tile_scale=1.5),)

    def synthesis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        def run(y_hat: Tensor) -> Tensor:
            return self.g_s(y_hat, _qualities(quality, y_hat), self.precision)

        return (Stage(run, (BLOCK, 1), _MARGIN, tile_scale=1.5),)

    def scaled_synthesis_stages(self, quality: Tensor | float, divisor: int) -> tuple[Stage, ...]:
        if divisor < PATCH or self.family not in _LINEAR_PREVIEWS:
            return super().scaled_synthesis_stages(quality, divisor)

        def run(y_hat: Tensor) -> Tensor:
            return self.g_s.block_means(y_hat, divisor)

        return (Stage(run, (BLOCK, divisor), 0),)

    def set_precision(self, precision: torch.dtype) -> None:
        self.precision = precision
        for part in (self.g_a, self.g_s, self.h_a):
            for name, m in part.named_modules():
                # The linear path carries most of the picture and needs all bits of float32.
                if isinstance(m, nn.Conv2d | nn.Linear) and name != "linear":
                    m.to(precision, memory_format=torch.channels_last)

    def gains(self, quality: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
        gain, inverse = (
            at_quality(table, _qualities(quality, y)).exp()[:, :, None, None]
            for table in (self.log_gain, self.log_inverse)
        )
        return gain, inverse

    # ------------------------------------------------------------------- entropy model

    def hyper_analysis(self, y: Tensor) -> Tensor:
        first, second, third = self.h_a
        y = y.permute(0, 2, 3, 1) * torch.exp(-self.log_spread)
        z = third(F.gelu(second(F.gelu(first(y.to(self.precision))))))
        return z.float().permute(0, 3, 1, 2)

    def estimate(
        self,
        y: Tensor,
        quality: Tensor | float,
        rounding: Callable[[Tensor], Tensor] = ste_round,
    ) -> tuple[Tensor, Tensor, Tensor]:
        z = self.hyper_analysis(y) - self.entropy_bottleneck.medians()
        z_symbols = ste_round(z)
        z_tilde = add_uniform_noise(z) if self.training else z_symbols
        z_likelihoods = self.entropy_bottleneck.likelihood(
            z_tilde + self.entropy_bottleneck.medians()
        )
        passes = self.passes(y)
        coded: list[tuple[Tensor, Tensor]] = []

        def code(i: int, mean: Tensor, level: Tensor) -> Tensor:
            rounded = rounding(passes[i] - mean)
            residual = add_uniform_noise(passes[i]) - mean if self.training else rounded
            coded.append((residual, level))
            return rounded

        y_hat = self._decode(z_symbols, quality, code, self.scales)
        residual, level = (torch.cat(tensors, 3) for tensors in zip(*coded, strict=True))
        level = self.row_bound(level).clamp(max=SCALE_LEVELS - 1)
        y_likelihoods = self.gaussian_conditional.likelihood(
            residual, SCALE_MIN * torch.exp(level * LOG_SCALE_STEP)
        )
        return y_hat, y_likelihoods.permute(0, 3, 1, 2), z_likelihoods

    def _decode(
        self,
        z_symbols: Tensor,
        quality: Tensor | float,
        code: SymbolCoder,
        scales: ScaleNetwork | IntegerScales,
    ) -> Tensor:
        """ŷ (B, M, h, w) before the inverse gain. `code` gets each pass as `checkerboard.pack`
        gives it."""
        precision = self.precision if self.training else torch.float32
        z = z_symbols.permute(0, 2, 3, 1).to(precision)
        q = _qualities(quality, z)
        unit = torch.exp(self.log_spread + at_quality(self.log_gain, q))[:, None, None]

        def first(features: Tensor, scale_features: Tensor) -> tuple[Tensor, Tensor]:
            mean = self.means.first(features).float() * unit
            return pack(mean, 0), pack(scales.first_levels(scale_features, q), 0)

        def second(
            features: Tensor, scale_features: Tensor, y_first: Tensor, symbols: Tensor
        ) -> tuple[Tensor, Tensor]:
            decoded = (unpack(y_first) / unit).to(precision)
            mean = self.means.second(features, decoded, q).float() * unit
            level = scales.second_levels(scale_features, unpack(symbols), q)
            return pack(mean, 1), pack(level, 1)

        features = self.means.hyper(z), scales.features(z)
        mean, level = in_strips(first, features)
        symbols = code(0, mean, level)
        y_first = symbols + mean
        mean, level = in_strips(second, (*features, y_first, symbols))
        y_second = code(1, mean, level) + mean
        return merge(y_first, y_second).permute(0, 3, 1, 2)

    # -------------------------------------------------------------------------- coding

    def passes(self, y: Tensor) -> Sequence[Tensor]:
        y = y.permute(0, 2, 3, 1)
        return pack(y, 0), pack(y, 1)

    def join_passes(self, passes: Sequence[Tensor]) -> Tensor:
        first, second = passes
        return merge(first, second).permute(0, 3, 1, 2)

    def decode_symbols(self, z_symbols: Tensor, quality: float, code: SymbolCoder) -> Tensor:
        if self.integer is not None:
            return self._decode(z_symbols, quality, code, self.integer)

        def code_float(i: int, mean: Tensor, level: Tensor) -> Tensor:
            return code(i, mean, level.round().clamp(0, SCALE_LEVELS - 1))

        return self._decode(z_symbols, quality, code_float, self.scales)


def _qualities(quality: Tensor | float, like: Tensor) -> Tensor:
    """Qualities (B,), one for each picture of `like` (B, …)."""
    if isinstance(quality, Tensor):
        return quality
    return torch.full((len(like),), quality, device=like.device, dtype=torch.float32)
