"""The entropy networks of the lite models: means of y, and scale levels of y in floats.

`lite_integer.py` has the scale network in integers, which coding uses. Maps are (B, H, W, C).
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
from stfcodec.models.lite_integer import LEVELS_PER_UNIT, MAX_MAGNITUDE
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
    """Predicts the means of y in units of `LiteModel.log_spread`.

    The first pass is predicted from z, the second from z and the first pass.
    """

    def __init__(self, w: LiteWidths) -> None:
        super().__init__()
        N, M, K = w.hyper_latents, w.latents, w.context_channels
        self.hyper = Hyper(N)
        self.first = zeroed(Linear(N, M))
        self.context = Convolution(N + M, K)
        self.scale = QualityScale(K)
        self.block = block(K, DepthwiseMixer(K))
        self.last = zeroed(Linear(K, M))

    def second(self, features: Tensor, decoded: Tensor, quality: Tensor) -> Tensor:
        """Means of all latents (B, h, w, M), for the second pass.

        features: output of `hyper` (B, h, w, N). decoded: (B, h, w, M), ŷ of the first pass in its
        unit, 0 where the second pass codes. quality: (B,).
        """
        context = self.context(torch.cat([features, decoded], 3))
        return self.last(self.block(F.gelu(self.scale(context, quality))))


class ScaleNetwork(nn.Module):
    """Predicts the scale levels of y as real numbers, for training.

    The first pass is predicted from z, the second from z and the first pass's symbols. Coding uses
    the integer form, `lite_integer.IntegerScales`.
    """

    def __init__(self, w: LiteWidths) -> None:
        super().__init__()
        N, M = w.hyper_latents, w.latents
        self.hyper = Hyper(N)
        self.first = zeroed(Convolution(N, M))
        self.context = Convolution(N + M, N)
        self.second = zeroed(Convolution(N, M))
        self.offset = nn.Parameter(
            torch.full((len(LAMBDAS), M), SCALE_LEVELS / 3 / LEVELS_PER_UNIT)
        )
        """Mean scale level of each latent channel at each quality, in units of LEVELS_PER_UNIT."""

    def features(self, z: Tensor) -> Tensor:
        """Symbols of z (B, h, w, N) -> features for both passes (B, 4·h, 4·w, N)."""
        return self.hyper(z)

    def first_levels(self, features: Tensor, quality: Tensor) -> Tensor:
        """Scale levels of all latents (B, h, w, M), for the first pass."""
        return self._levels(self.first(features), quality)

    def second_levels(self, features: Tensor, symbols: Tensor, quality: Tensor) -> Tensor:
        """Scale levels of all latents (B, h, w, M), for the second pass.

        symbols: (B, h, w, M) of the first pass, 0 where the second pass codes. They get no
        gradient.
        """
        magnitude = symbols.detach().abs().clamp(max=MAX_MAGNITUDE).to(features.dtype)
        context = F.gelu(self.context(torch.cat([features, magnitude], 3)))
        return self._levels(self.second(context), quality)

    def _levels(self, out: Tensor, quality: Tensor) -> Tensor:
        return LEVELS_PER_UNIT * (out.float() + at_quality(self.offset, quality)[:, None, None])
