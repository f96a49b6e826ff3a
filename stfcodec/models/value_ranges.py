"""The ranges of values in a model's float entropy networks, measured on photographs.

Calibration (`calibrate.py`) derives the quantisation of weights and activations from them. Ranges
are rounded to 8 significant bits, so that machines whose float arithmetic differs in the last bits
find the same ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stfcodec.models.base import CompressionModel
from stfcodec.models.blocks import Convolution
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.registry import LAMBDAS

MARGIN = 0.25
"""Ranges are widened by this share on both sides, because other photographs exceed them."""

_SIGNIFICANT_BITS = 8


@dataclass
class Range:
    """The values of a tensor's channels: minimum, maximum, sum, and how many were counted.

    All start at 0, so a range always includes 0; `add` gives them one entry per channel.
    """

    lowest: Tensor = field(default_factory=lambda: torch.zeros(()))
    highest: Tensor = field(default_factory=lambda: torch.zeros(()))
    total: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    count: int = 0

    def add(self, x: Tensor) -> None:
        """x: (B, C, H, W)."""
        self.lowest = torch.minimum(self.lowest, x.amin((0, 2, 3)))
        self.highest = torch.maximum(self.highest, x.amax((0, 2, 3)))
        self.total = self.total + x.double().sum((0, 2, 3))
        self.count += x.shape[0] * x.shape[2] * x.shape[3]

    def __getitem__(self, channels: Tensor) -> Range:
        """The range of these channels, in this order."""
        return Range(
            self.lowest[channels], self.highest[channels], self.total[channels], self.count
        )

    @property
    def low(self) -> Tensor:
        """(C,) float32."""
        return _rounded(self.lowest)

    @property
    def high(self) -> Tensor:
        """(C,) float32."""
        return _rounded(self.highest)

    @property
    def mean(self) -> Tensor:
        """(C,) float32."""
        return _rounded(self.total / max(self.count, 1))

    @property
    def magnitude(self) -> Tensor:
        """(C,) float32: the largest magnitude, with the margin."""
        return torch.maximum(-self.low, self.high) * (1 + MARGIN)


def _rounded(x: Tensor) -> Tensor:
    """x to _SIGNIFICANT_BITS significant bits, float32. Any shape."""
    mantissa, exponent = torch.frexp(x.double())
    units = torch.round(torch.ldexp(mantissa, torch.tensor(_SIGNIFICANT_BITS)))
    return torch.ldexp(units, exponent - _SIGNIFICANT_BITS).float()


@dataclass
class Ranges:
    """The ranges of all tensors that calibration quantises."""

    inputs: dict[nn.Conv2d, Range] = field(default_factory=dict)
    outputs: dict[nn.Conv2d, Range] = field(default_factory=dict)
    y_hat: Range = field(default_factory=Range)
    """ŷ before the inverse gain."""


def in_float64(model: CompressionModel) -> CompressionModel:
    """A copy of the published networks in float64, without an integer form; lite models themselves,
    whose layers choose their precision.

    What is rounded to integers after float64 arithmetic is practically the same on every machine.
    """
    if not isinstance(model, ChannelwiseModel):
        return model
    return copy.deepcopy(model, {id(model.integer): None}).double()


def latents(model: CompressionModel, x: Tensor, quality: float) -> Tensor:
    """y (B, M, h, w) of crops x (B, 3, H, W), in the precision of the model's parameters."""
    return model.analysis(x.to(next(model.parameters()).dtype), quality).contiguous()


@torch.no_grad()
def measure_ranges(model: CompressionModel, crops: Sequence[Tensor]) -> Ranges:
    """Code the crops with the float networks and return the ranges of what these see.

    crops: batches (B, 3, H, W) of photographs in 0…1, sides multiples of 64. Qualities 1…6 take
    turns, one per batch.
    """
    model.eval()
    ranges = Ranges()
    with _recording(model, ranges):
        for i, x in enumerate(crops):
            quality = 1.0 + i % len(LAMBDAS)
            y = latents(model, x, quality)
            ranges.y_hat.add(_code(model, y, quality))
    return ranges


@contextmanager
def _recording(model: CompressionModel, ranges: Ranges) -> Iterator[None]:
    """Inside, the convolutions of the entropy networks record their inputs and outputs."""

    def record(conv: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        for of_conv, x in ((ranges.inputs, inputs[0]), (ranges.outputs, output)):
            nchw = x.permute(0, 3, 1, 2) if isinstance(conv, Convolution) else x
            of_conv.setdefault(conv, Range()).add(nchw)

    hooks = [
        layer.register_forward_hook(record)
        for name in model.integer_replaces
        for layer in model.get_submodule(name).modules()
        if isinstance(layer, nn.Conv2d)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _code(model: CompressionModel, y: Tensor, quality: float) -> Tensor:
    """Run the float entropy networks as coding does. Return ŷ before the inverse gain."""
    z, passes = model.symbols_and_passes(y, quality)

    def code(i: int, mean: Tensor, level: Tensor) -> Tensor:
        return torch.round(passes[i] - mean)

    return model.decode_symbols(z, quality, code)
