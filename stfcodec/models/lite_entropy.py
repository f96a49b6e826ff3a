"""What predicts the latents of the lite models: means in floats, table rows for training in floats.

Maps are (B, H, W, C).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.models.blocks import (
    Convolution,
    DepthwiseMixer,
    QualityScale,
    at_quality,
    block,
    shuffle,
    zeroed,
)
from stfcodec.models.layers import Linear
from stfcodec.models.lite_integer import MAX_MAGNITUDE, ROWS_A_UNIT
from stfcodec.models.priors import SCALE_LEVELS
from stfcodec.models.registry import LAMBDAS, LiteWidths


class Hyper(nn.Sequential):
    """h_s: symbols of z (B, h, w, N) -> features (B, 4·h, 4·w, N)."""

    def __init__(self, n: int) -> None:
        super().__init__(Convolution(n, n), Convolution(n, 4 * n), Convolution(n, 4 * n))

    def forward(self, z: Tensor) -> Tensor:
        first, *others = self
        z = F.gelu(first(z))
        for layer in others:
            z = F.gelu(shuffle(layer(z), 2))
        return z


class MeanNetwork(nn.Module):
    """Means of y, in units of its spread: of the first pass from z, of the second from the first
    pass too."""

    def __init__(self, w: LiteWidths) -> None:
        super().__init__()
        N, M, K = w.hyper_latents, w.latents, w.context_channels
        self.hyper = Hyper(N)
        self.first = zeroed(Linear(N, M))
        self.context = Convolution(N + M, K)
        self.scale = QualityScale(K)
        self.block = block(K, DepthwiseMixer(K))
        self.last = zeroed(Linear(K, M))

    def second(self, features: Tensor, seen: Tensor, quality: Tensor) -> Tensor:
        """features: what `hyper` gave; seen: ŷ of the first pass over its spread, else 0."""
        context = self.context(torch.cat([features, seen], 3))
        return self.last(self.block(F.gelu(self.scale(context, quality))))


class ScaleNetwork(nn.Module):
    """Rows of the tables, as real numbers, that symbols of y are coded with: of the first pass from
    z, of the second from the first pass's symbols too.

    For training; coding goes by its integer form, `lite_integer.IntegerScales`.
    """

    def __init__(self, w: LiteWidths) -> None:
        super().__init__()
        N, M = w.hyper_latents, w.latents
        self.hyper = Hyper(N)
        self.first = zeroed(Convolution(N, M))
        self.context = Convolution(N + M, N)
        self.second = zeroed(Convolution(N, M))
        self.offset = nn.Parameter(torch.full((len(LAMBDAS), M), SCALE_LEVELS / 3 / ROWS_A_UNIT))
        """Of the usual row, at each quality."""

    def features(self, z: Tensor) -> Tensor:
        """Symbols of z (B, h, w, N) -> what both passes go by (B, 4·h, 4·w, N)."""
        return self.hyper(z)

    def first_rows(self, features: Tensor, quality: Tensor) -> Tensor:
        """(B, h, w, M): of all latents, for the first pass."""
        return self._rows(self.first(features), quality)

    def second_rows(self, features: Tensor, symbols: Tensor, quality: Tensor) -> Tensor:
        """symbols: of the first pass (B, h, w, M), else 0. Gradients do not pass through them."""
        size = symbols.detach().abs().clamp(max=MAX_MAGNITUDE).to(features.dtype)
        context = F.gelu(self.context(torch.cat([features, size], 3)))
        return self._rows(self.second(context), quality)

    def _rows(self, out: Tensor, quality: Tensor) -> Tensor:
        return ROWS_A_UNIT * (out.float() + at_quality(self.offset, quality)[:, None, None])
