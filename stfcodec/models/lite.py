"""The lite models: one skeleton, of which WACNN and STF fill the bodies with blocks of their own.

    x ─ 8×8 patches to C ─ body (⅛) ─ 3×3/2 to M ─ attention (1⁄16) ─ 1×1 ─┐
    └─────────────── 16×16 blocks, linear ──────────────────────────────── + ─ y
    ŷ ─ attention (1⁄16) ─ 1×1, shuffle ─ body (⅛) ─ 1×1, shuffle ─ block (¼) ─ 3×3, shuffle ─┐
    └─────────────── 16×16 blocks, linear ────────────────────────────────────────────────── + ─ x̂

The linear way starts as the Karhunen-Loève transform of photographs, the branches beside it at
zero: step 0 of training is a block-transform codec. y is coded in two passes over a checkerboard of
positions and channels. What decides the row of a symbol's table is the hyper-latents' and the first
pass's symbols alone, through a small network that runs in integers (`lite_integer.py`); means are
floats, on any device: one that differs in its last bits moves ŷ by as much.

Maps are (B, H, W, C) in this file, but for pictures, latents and hyper-latents, (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models.base import Code, CompressionModel, Step, noisy
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
from stfcodec.models.checkerboard import by_rows, merge, pack, unpack
from stfcodec.models.layers import Linear, LowerBound
from stfcodec.models.lite_entropy import MeanNetwork, ScaleNetwork
from stfcodec.models.lite_integer import IntegerScales
from stfcodec.models.priors import (
    SCALE_LEVELS,
    SCALE_MAX,
    SCALE_MIN,
    EntropyBottleneck,
    ste_round,
)
from stfcodec.models.registry import LAMBDAS, LiteWidths

PATCH, BLOCK = 8, 16
"""Pixels, each way, of what the body and of what a latent sees."""

LOG_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_LEVELS - 1)
"""Between the logarithms of neighbouring scale levels."""

_MARGIN = 128
"""Pixels beyond which a transform sees nothing: half a window more in each block, and the
convolutions; a multiple of what attention windows span."""


def wacnn_body(dim: int, depth: int, window: int) -> nn.Sequential:
    """Depthwise-convolution blocks, with window attention in their midst."""
    blocks: list[nn.Module] = [block(dim, DepthwiseMixer(dim)) for _ in range(depth)]
    blocks.insert(depth // 2, Residual(dim, AttentionMixer(dim, window)))
    return nn.Sequential(*blocks)


def stf_body(dim: int, depth: int, window: int) -> nn.Sequential:
    """Swin blocks, the windows of every second one shifted."""
    return nn.Sequential(
        *(block(dim, AttentionMixer(dim, window, i % 2 * window // 2)) for i in range(depth))
    )


BODIES = {"wacnn": wacnn_body, "stf": stf_body}


class BlockTransform(nn.Linear):
    """A linear map without bias, of float32. Its weights are stored √768 times larger: entries of
    an orthonormal transform are so small that steps of the optimiser would shake it.

    x: (B, h, w, in_features) -> (B, h, w, out_features).
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * _BLOCK_SCALE)

    def set(self, matrix: Tensor) -> None:
        """matrix: (out_features, in_features)."""
        with torch.no_grad():
            self.weight.copy_(matrix / _BLOCK_SCALE)


_BLOCK_SCALE = (3 * BLOCK**2) ** -0.5

_RESIDUAL = 1 / 32
"""About the size of what g_s's branch adds to the picture."""


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
        """Of what the branch adds to the latents."""

    def forward(self, x: Tensor, quality: Tensor, precision: torch.dtype) -> Tensor:
        """precision: of everything but the linear way."""
        patches = unshuffle(x.permute(0, 2, 3, 1) - 0.5, PATCH)
        z = self.scale_in(self.embed(patches.to(precision)), quality)
        z = self.scale_out(self.body(z), quality)
        z = self.last(self.attention(self.down(z)))
        y = self.linear(unshuffle(patches, BLOCK // PATCH)) + z.float() * self.log_spread.exp()
        return y.permute(0, 3, 1, 2)


class Synthesis(nn.Module):
    """g_s: ŷ (B, M, h, w) -> pictures (B, 3, 16·h, 16·w), not clamped, float32."""

    def __init__(self, family: str, w: LiteWidths) -> None:
        super().__init__()
        C, M, T = w.channels, w.latents, w.fine_channels
        self.log_spread = nn.Parameter(torch.zeros(M))
        """Of what latents are divided by, so that none drowns the others."""
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
        """precision: of everything but the linear way."""
        y_hat = y_hat.permute(0, 2, 3, 1)
        z = self.attention((y_hat * torch.exp(-self.log_spread)).to(precision))
        z = self.scale_in(shuffle(self.up(z), 2), quality)
        z = shuffle(self.up_fine(self.body(z)), 2)
        z = self.last(self.scale_out(self.fine(z), quality))
        linear = shuffle(self.linear(y_hat), 4) + 0.5
        return shuffle(linear.add(z, alpha=_RESIDUAL), 4).permute(0, 3, 1, 2)


class LiteModel(CompressionModel):
    """WACNN or STF in the lite layout. Qualities are values that go along: nothing in the model
    changes while it codes."""

    integer_replaces = ("scales",)

    def __init__(self, family: str, widths: LiteWidths) -> None:
        super().__init__()
        M, N, Q = widths.latents, widths.hyper_latents, len(LAMBDAS)
        self.widths = widths
        self.g_a = Analysis(family, widths)
        self.g_s = Synthesis(family, widths)
        self.log_gain = nn.Parameter(torch.zeros(Q, M))
        self.log_inverse = nn.Parameter(torch.zeros(Q, M))
        self.log_spread = nn.Parameter(torch.zeros(M))
        """Of y: what the entropy model divides latents by, and multiplies means by."""
        self.h_a = nn.Sequential(
            Convolution(M, N), Convolution(N, N, stride=2), Convolution(N, N, stride=2)
        )
        self.means = MeanNetwork(widths)
        self.scales = ScaleNetwork(widths)
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.row_bound = LowerBound(0.0)

    @property
    def transforms(self) -> frozenset[str]:
        return frozenset({"g_a", "g_s"})

    def new_integer(self) -> IntegerScales:
        return IntegerScales(self.widths, SCALE_LEVELS)

    def dequantise(self) -> None:
        assert self.integer is not None
        self.integer.dequantise_into(self.scales)

    # ---------------------------------------------------------------------- transforms

    def analysis_steps(self, quality: Tensor | float) -> tuple[Step, ...]:
        def run(x: Tensor) -> Tensor:
            return self.g_a(x, _qualities(quality, x), self.precision)

        return (Step(run, (1, BLOCK), _MARGIN, tiles=1.5),)

    def synthesis_steps(self, quality: Tensor | float) -> tuple[Step, ...]:
        def run(y_hat: Tensor) -> Tensor:
            return self.g_s(y_hat, _qualities(quality, y_hat), self.precision)

        return (Step(run, (BLOCK, 1), _MARGIN, tiles=1.5),)

    def set_precision(self, precision: torch.dtype) -> None:
        self.precision = precision
        for part in (self.g_a, self.g_s, self.h_a):
            for name, m in part.named_modules():
                # The linear way carries the picture, the branch beside it what is added to it.
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
        z_seen = noisy(z) if self.training else z_symbols
        z_likelihoods = self.entropy_bottleneck.likelihood(
            z_seen + self.entropy_bottleneck.medians()
        )
        targets = self.passes(y)
        found: list[tuple[Tensor, Tensor]] = []

        def code(i: int, mean: Tensor, row: Tensor) -> Tensor:
            rounded = rounding(targets[i] - mean)
            found.append((noisy(targets[i]) - mean if self.training else rounded, row))
            return rounded

        y_hat = self._decode(z_symbols, quality, code, self.scales)
        residual, row = (torch.cat([f[k] for f in found], 3) for k in (0, 1))
        row = self.row_bound(row).clamp(max=SCALE_LEVELS - 1)
        y_likelihoods = self.gaussian_conditional.likelihood(
            residual, SCALE_MIN * torch.exp(row * LOG_STEP)
        )
        return y_hat, y_likelihoods.permute(0, 3, 1, 2), z_likelihoods

    def _decode(
        self,
        z_symbols: Tensor,
        quality: Tensor | float,
        code: Code,
        scales: ScaleNetwork | IntegerScales,
    ) -> Tensor:
        """ŷ (B, M, h, w) before the inverse gain. `code` is given passes as `passes.pack` makes
        them."""
        precision = self.precision if self.training else torch.float32
        z = z_symbols.permute(0, 2, 3, 1).to(precision)
        q = _qualities(quality, z)
        unit = torch.exp(self.log_spread + at_quality(self.log_gain, q))[:, None, None]

        def first(features: Tensor, row_features: Tensor) -> tuple[Tensor, Tensor]:
            mean = self.means.first(features).float() * unit
            return pack(mean, 0), pack(scales.first_rows(row_features, q), 0)

        def second(
            features: Tensor, row_features: Tensor, y_first: Tensor, symbols: Tensor
        ) -> tuple[Tensor, Tensor]:
            seen = (unpack(y_first) / unit).to(precision)
            mean = self.means.second(features, seen, q).float() * unit
            row = scales.second_rows(row_features, unpack(symbols), q)
            return pack(mean, 1), pack(row, 1)

        features = self.means.hyper(z), scales.features(z)
        mean, row = by_rows(first, features)
        symbols = code(0, mean, row)
        y_first = symbols + mean
        mean, row = by_rows(second, (*features, y_first, symbols))
        y_second = code(1, mean, row) + mean
        return merge(y_first, y_second).permute(0, 3, 1, 2)

    # -------------------------------------------------------------------------- coding

    def passes(self, y: Tensor) -> Sequence[Tensor]:
        y = y.permute(0, 2, 3, 1)
        return pack(y, 0), pack(y, 1)

    def decode_symbols(self, z_symbols: Tensor, quality: float, code: Code) -> Tensor:
        if self.integer is not None:
            return self._decode(z_symbols, quality, code, self.integer)

        def code_float(i: int, mean: Tensor, row: Tensor) -> Tensor:
            return code(i, mean, row.round().clamp(0, SCALE_LEVELS - 1))

        return self._decode(z_symbols, quality, code_float, self.scales)


def _qualities(quality: Tensor | float, like: Tensor) -> Tensor:
    """(B,) of them, one for each picture of `like`."""
    if isinstance(quality, Tensor):
        return quality
    return torch.full((len(like),), quality, device=like.device, dtype=torch.float32)
