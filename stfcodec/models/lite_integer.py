"""The integer form of the lite models' scale network: equal symbols give equal levels everywhere.

`IntegerScales` replaces `lite_entropy.ScaleNetwork` in coding. It computes the scale level of each
latent, the index of the CDF table that codes its symbol, from symbols alone: those of z and, for
the second pass, those of the first pass. Its layers are those of `integer_layers.py`; feature maps
are (B, H, W, C).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from stfcodec.models.integer_backends import Backend, best_backend
from stfcodec.models.integer_layers import IntegerConv, LinearConv, TableConv
from stfcodec.models.registry import LAMBDAS, LiteWidths

MAX_MAGNITUDE = 15
"""The second pass sees magnitudes of the first pass's symbols clamped to this."""

MAGNITUDE_STEP = 1 / 8
"""The quantisation step of magnitudes as activations. They share one scale of the int8 weights with
the features, so they must span int8 as features do."""

LEVELS_PER_UNIT = 8.0
"""Scale levels per unit of the networks' outputs: roughly a factor e of the scale."""

LEVEL_DENOMINATOR = 256
"""Scale levels are computed as multiples of 1/256."""

_LIMIT = 1 << 20
"""Clamp of layer outputs, in 1/256: far beyond every level, and exact in float32."""

_QUALITY_DENOMINATOR = 1000
"""A stream stores qualities as multiples of 1/1000."""


class IntegerScales(nn.Module):
    """`ScaleNetwork` in integers: the same methods, on symbols, with whole numbers as levels.

    `offset` (6, M): the level around which a channel's levels lie at each quality, in 1/256.
    """

    offset: Tensor

    def __init__(self, widths: LiteWidths, levels: int) -> None:
        super().__init__()
        N, M = widths.hyper_latents, widths.latents
        self.levels = levels
        self.hyper = nn.Sequential(
            TableConv(N, N), TableConv(N, 4 * N, shuffle=2), TableConv(N, 4 * N, shuffle=2)
        )
        self.first = LinearConv(N, M, -_LIMIT, _LIMIT)
        self.context = TableConv(N + M, N)
        self.second = LinearConv(N, M, -_LIMIT, _LIMIT)
        self.register_buffer("offset", torch.zeros(len(LAMBDAS), M, dtype=torch.int32))

    def prepare(self, backend: Backend | None = None) -> IntegerScales:
        """Prove every layer exact and make it ready on the device of the buffers.

        backend: by default the quickest that is exact there. Raises WeightsError where a layer's
        sums could be inexact.
        """
        backend = backend or best_backend(self.offset.device)
        for layer in self.layers():
            layer.prepare(backend)
        return self

    def layers(self) -> list[IntegerConv]:
        """All layers, in the order in which they run."""
        return [*cast(list[TableConv], list(self.hyper)), self.first, self.context, self.second]

    def features(self, z: Tensor) -> Tensor:
        """Symbols of z (B, h, w, N) -> features (B, 4·h, 4·w, N), which both passes use."""
        return self.hyper(z.clamp(-128, 127))

    def first_levels(self, features: Tensor, quality: Tensor) -> Tensor:
        """Scale levels (B, h, w, M) uint8 of all latents, for the first pass. quality: (B,)."""
        return self._levels(self.first(features), quality)

    def second_levels(self, features: Tensor, symbols: Tensor, quality: Tensor) -> Tensor:
        """Scale levels (B, h, w, M) uint8 of all latents, for the second pass.

        symbols: (B, h, w, M), those of the first pass, and 0 where the second pass codes.
        """
        magnitude = symbols.abs().clamp_(max=MAX_MAGNITUDE).div_(MAGNITUDE_STEP)
        context = self.context(torch.cat([features, magnitude.to(features.dtype)], 3))
        return self._levels(self.second(context), quality)

    def dequantise_into(self, network: Any) -> None:
        """Give a `ScaleNetwork` the weights that this form stands for."""
        convs = [*network.hyper, network.first, network.context, network.second]
        with torch.no_grad():
            for layer, conv in zip(self.layers(), convs, strict=True):
                weight, bias = layer.dequantise()
                if isinstance(layer, TableConv) and layer.shuffle > 1:
                    order = shuffled_order(len(bias), layer.shuffle).argsort()
                    weight, bias = weight[order], bias[order]
                conv.weight.copy_(weight)
                conv.bias.copy_(bias)
            network.offset.copy_(self.offset / (LEVEL_DENOMINATOR * LEVELS_PER_UNIT))

    def _levels(self, relative: Tensor, quality: Tensor) -> Tensor:
        """Scale levels from layer outputs relative to the offset, which are overwritten.

        Rounds half up. Every step is exact: integers below 2²⁴, and such integers over 256.
        """
        offset = torch.stack([self._offset(q) for q in quality.tolist()])
        levels = relative.add_(offset[:, None, None])
        levels = levels.add_(LEVEL_DENOMINATOR / 2).div_(LEVEL_DENOMINATOR).floor_()
        return levels.clamp_(0, self.levels - 1).to(torch.uint8)

    def _offset(self, quality: float) -> Tensor:
        """(M,) float32 integers: linear between neighbouring qualities, in int64 arithmetic."""
        lower, excess = divmod(round(quality * _QUALITY_DENOMINATOR), _QUALITY_DENOMINATOR)
        low = self.offset[lower - 1].long()
        high = self.offset[min(lower, len(self.offset) - 1)].long()
        weighted = low * (_QUALITY_DENOMINATOR - excess) + high * excess
        return (weighted // _QUALITY_DENOMINATOR).float()


def shuffled_order(channels: int, r: int) -> Tensor:
    """(channels,) int64: the output channels of a float convolution in the order of a TableConv.

    Before `blocks.shuffle` the r·r positions vary slowest, before TableConv's shuffle fastest.
    """
    return torch.arange(channels).view(r * r, -1).T.flatten()
