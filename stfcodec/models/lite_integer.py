"""The scale network of the lite models in integers: equal symbols give equal table rows everywhere.

What decides which table codes a symbol is computed from the symbols of z, and for the second pass
from those of the first, by the layers of `integer.py`: exact sums of integers, tables between them.
Feature maps are (B, H, W, C) in this file.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from stfcodec.models.integer import LinearConv, TableConv
from stfcodec.models.integer_backends import Backend, best_backend
from stfcodec.models.registry import LAMBDAS, LiteWidths

MAX_MAGNITUDE = 15
"""The first pass's symbols count for the second's rows up to this size."""

MAGNITUDE_STEP = 1 / 8
"""What one integer stands for where magnitudes are activations: they shall span int8 as features
do, with which they share the scale of the weights."""

ROWS_A_UNIT = 8.0
"""Rows, about a factor e of the scale, that one unit of the networks' outputs stands for."""

FRACTION = 256
"""Rows are computed in units of 1/256."""

_LIMIT = 1 << 20
"""Of what the layers give and of the offsets, in these units: far beyond any row, and exact."""

_THOUSANDTHS = 1000
"""Of a quality: what a stream stores."""


class IntegerScales(nn.Module):
    """`lite.ScaleNetwork` in integers: same calls, on symbols, with rows as integers."""

    offset: Tensor

    def __init__(self, w: LiteWidths, rows: int) -> None:
        super().__init__()
        N, M = w.hyper_latents, w.latents
        self.rows = rows
        self.hyper = nn.Sequential(
            TableConv(N, N), TableConv(N, 4 * N, shuffle=2), TableConv(N, 4 * N, shuffle=2)
        )
        self.first = LinearConv(N, M, -_LIMIT, _LIMIT)
        self.context = TableConv(N + M, N)
        self.second = LinearConv(N, M, -_LIMIT, _LIMIT)
        self.register_buffer("offset", torch.zeros(len(LAMBDAS), M, dtype=torch.int32))

    def prepare(self, backend: Backend | None = None) -> IntegerScales:
        """Proves every layer exact and makes it ready on the device that its buffers are on.

        Raises WeightsError where a layer is not exact.
        """
        backend = backend or best_backend(self.offset.device)
        for layer in self.layers():
            layer.prepare(backend)
        return self

    def layers(self) -> list[TableConv | LinearConv]:
        """In the order in which they run."""
        hyper = cast(list[TableConv], list(self.hyper))
        return [*hyper, self.first, self.context, self.second]

    def features(self, z: Tensor) -> Tensor:
        """Symbols of z (B, h, w, N) -> what both passes go by (B, 4·h, 4·w, N)."""
        return self.hyper(z.clamp(-128, 127))

    def first_rows(self, features: Tensor, quality: Tensor) -> Tensor:
        """(B, h, w, M) uint8: of all latents, for the first pass."""
        return self._rows(self.first(features), quality)

    def second_rows(self, features: Tensor, symbols: Tensor, quality: Tensor) -> Tensor:
        """symbols: of the first pass (B, h, w, M), else 0."""
        size = symbols.abs().clamp_(max=MAX_MAGNITUDE).div_(MAGNITUDE_STEP).to(features.dtype)
        context = self.context(torch.cat([features, size], 3))
        return self._rows(self.second(context), quality)

    def dequantise_into(self, network: Any) -> None:
        """Gives a `lite.ScaleNetwork` the weights that this form stands for."""
        floats = [*network.hyper, network.first, network.context, network.second]
        with torch.no_grad():
            for layer, conv in zip(self.layers(), floats, strict=True):
                weight, bias = layer.dequantise()
                if isinstance(layer, TableConv) and layer.shuffle > 1:
                    order = shuffled_order(len(bias), layer.shuffle).argsort()
                    weight, bias = weight[order], bias[order]
                conv.weight.copy_(weight)
                conv.bias.copy_(bias)
            network.offset.copy_(self.offset / (FRACTION * ROWS_A_UNIT))

    def _rows(self, out: Tensor, quality: Tensor) -> Tensor:
        """Rounded half up. Everything is an integer below 2²⁴ or such a one over 256."""
        offset = torch.stack([self._offset(q) for q in quality.tolist()])
        rows = out.add_(offset[:, None, None]).add_(FRACTION / 2).div_(FRACTION).floor_()
        return rows.clamp_(0, self.rows - 1).to(torch.uint8)

    def _offset(self, quality: float) -> Tensor:
        """(M,) float32: between those of the neighbouring qualities, in integers."""
        lower, over = divmod(round(quality * _THOUSANDTHS), _THOUSANDTHS)
        low = self.offset[lower - 1].long()
        high = self.offset[min(lower, len(self.offset) - 1)].long()
        return ((low * (_THOUSANDTHS - over) + high * over) // _THOUSANDTHS).float()


def shuffled_order(channels: int, r: int) -> Tensor:
    """Which output channel of a convolution before `blocks.shuffle` takes each place of one before
    `integer._pixel_shuffle`, where the r·r positions vary fastest."""
    return torch.arange(channels).view(r * r, -1).T.flatten()
