"""Layers of integer arithmetic: equal inputs give equal outputs on every machine.

A layer is a 3×3 convolution of integers followed by a function of each sum. `integer_entropy.py`
and `lite_integer.py` build from these layers what replaces float entropy networks in coding: the
networks' integer form.

The sums are exact in any order (`integer_backends.py`) as long as no partial sum outgrows the
backend's number type; `IntegerConv.prove` shows that for every output channel. The function is a
multiplication by a constant with rounding and clamping, or a table look-up. Both work element by
element, and IEEE 754 defines their results.

Activations are integers −128·r…127·r, stored as int8 or float32, where r is the channel's reach.
Each channel has a quantisation step and a zero point. Calibration (`calibrate.py`) folds them into
weights, biases and tables, so that the arithmetic never sees them. Feature maps are (B, H, W, C).

See docs/exactness.md. Sources: Ballé et al., "Integer networks for data compression with
latent-variable models" (ICLR 2019); Jacob et al., "Quantization and training of neural networks
for efficient integer-arithmetic-only inference" (CVPR 2018).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from stfcodec.errors import WeightsError
from stfcodec.models.integer_backends import BOUND, Backend, Kernel

TABLE_SIZE = 512
"""Entries of an activation table; every output channel has its own table."""

SYMBOL_BOUND = (1 << 15) - 1
"""Bound of the symbols of y, in either direction."""
STRIP = 1 << 15
"""Positions of a feature map that `by_strips` computes at a time."""


class IntegerConv(nn.Module, ABC):
    """A 3×3 convolution with int8 weights, followed by a function of its sums.

    `scale` (O,), `step` (C,) and `float_bias` (O,) take no part in the arithmetic. `dequantise`
    makes float weights of them, weight · scale / step, from which training can go on.
    """

    weight: Tensor
    bias: Tensor
    zero: Tensor
    scale: Tensor
    step: Tensor
    float_bias: Tensor

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(c_out, c_in, 3, 3, dtype=torch.int8))
        self.register_buffer("bias", torch.zeros(c_out, dtype=torch.int32))
        self.register_buffer("zero", torch.zeros(c_in, dtype=torch.int16))
        self.register_buffer("scale", torch.ones(c_out, dtype=torch.float32))
        self.register_buffer("step", torch.ones(c_in, dtype=torch.float32))
        self.register_buffer("float_bias", torch.zeros(c_out, dtype=torch.float32))

    def prepare(self, backend: Backend) -> None:
        """Make `forward` ready for activations of reach 1, on the device of the buffers.

        Raises WeightsError where the sums could be inexact.
        """
        reach = torch.ones_like(self.zero, dtype=torch.int64)
        self._convolve = backend.make_convolution(self._prepare_kernel(backend, reach))

    def prepare_finish(self, backend: Backend, reach: Tensor) -> Kernel:
        """Make `finish` ready, and return the kernel whose partial sums `finish` takes.

        reach: (C,) int64, of the activations. Raises WeightsError where the sums could be inexact.
        """
        kernel = self._prepare_kernel(backend, reach)
        self._finish = backend.make_finish(kernel)
        return kernel

    def _prepare_kernel(self, backend: Backend, reach: Tensor) -> Kernel:
        self.prove(reach)
        return Kernel(self.weight, self.factor, reach, self.zero.float(), self.bias.float())

    @property
    def factor(self) -> Tensor:
        """(O,) float32, powers of two: what `activate` wants the sums multiplied by."""
        return torch.ones_like(self.scale)

    def prove(self, reach: Tensor) -> None:
        """Raise WeightsError unless Σ|w|·max|a| + |b| < 2²⁴ for every output channel."""
        largest = self.largest_sums(self.weight, self.bias, reach)
        if int(largest.max()) >= BOUND:
            raise WeightsError(
                f"output channel {int(largest.argmax())} of an integer layer may reach "
                f"{int(largest.max())}, not below {BOUND}: its sums would not be exact"
            )

    @staticmethod
    def largest_sums(weight: Tensor, bias: Tensor, reach: Tensor) -> Tensor:
        """(O,) int64: the largest magnitude that a partial sum of each output channel can have.

        weight: (O, C, 3, 3) int8; bias: (O,) integers; reach: (C,).
        """
        taps = weight.to(torch.int16).abs().sum((2, 3), dtype=torch.int64)
        return (taps * reach).sum(1) * 128 + bias.to(torch.int64).abs()

    def forward(self, a: Tensor) -> Tensor:
        """Integers (B, H, W, C) -> integers (B, H, W, O), or (B, 2·H, 2·W, O/4) with a shuffle."""
        return by_strips(lambda strip: self.activate(self.convolve(strip)), a)

    def convolve(self, a: Tensor) -> Tensor:
        """Integers (B, H, W, C) -> sums times `factor` (B, H, W, O), float32."""
        return self._convolve(a)

    def finish(self, sums: Tensor) -> Tensor:
        """What `forward` gives, from added-up partial sums (B, H, W, O), which are overwritten."""
        return self.activate(self._finish(sums))

    @abstractmethod
    def activate(self, sums: Tensor) -> Tensor:
        """The layer's function of sums times `factor` (B, H, W, O), which are overwritten."""

    def dequantise(self) -> tuple[Tensor, Tensor]:
        """Weight (O, C, 3, 3) and bias (O,) of the float convolution that the layer replaces."""
        scale = self.scale[:, None, None, None]
        return self.weight * scale / self.step[:, None, None], self.float_bias


class TableConv(IntegerConv):
    """Sums, shifted right by `shift` and clamped, index the output channel's table.

    A table holds GELU or tanh, quantised with the step and zero point of the layer's outputs. The
    bias moves the sum of the first entry to 0. With `shuffle` 2 a pixel shuffle, in the channel
    order of torch's, doubles height and width.
    """

    shift: Tensor
    table: Tensor

    def __init__(self, c_in: int, c_out: int, shuffle: int = 1) -> None:
        super().__init__(c_in, c_out)
        self.shuffle = shuffle
        self.register_buffer("shift", torch.zeros(c_out, dtype=torch.uint8))
        self.register_buffer("table", torch.zeros(c_out, TABLE_SIZE, dtype=torch.int8))

    @property
    def factor(self) -> Tensor:
        return torch.pow(2.0, -self.shift.float())

    def _prepare_kernel(self, backend: Backend, reach: Tensor) -> Kernel:
        self._entries = self.table.flatten().to(backend.activation_dtype)
        starts = torch.arange(len(self.table), dtype=torch.int32) * TABLE_SIZE
        self._starts = starts.to(self.table.device)
        return super()._prepare_kernel(backend, reach)

    def activate(self, sums: Tensor) -> Tensor:
        # int() is the floor, because clamped sums are not negative.
        index = sums.clamp_(0, TABLE_SIZE - 1).int().add_(self._starts)
        values = self._entries.index_select(0, index.flatten()).view(index.shape)
        return values if self.shuffle == 1 else _pixel_shuffle(values, self.shuffle)


class LinearConv(IntegerConv):
    """Sums times `multiplier` (O,), rounded half to even and clamped to low…high."""

    multiplier: Tensor

    def __init__(self, c_in: int, c_out: int, low: int, high: int) -> None:
        super().__init__(c_in, c_out)
        self.low, self.high = low, high
        self.register_buffer("multiplier", torch.zeros(c_out, dtype=torch.float32))

    def activate(self, sums: Tensor) -> Tensor:
        # Separate operations: a fused multiply-add would round only once.
        return sums.mul_(self.multiplier).round_().clamp_(self.low, self.high)


def by_strips(run: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
    """run(a), computed in horizontal strips of about STRIP positions to bound the memory.

    a: (B, H, W, C). run: (B, h, W, C) -> (B, s·h, s·W, O) for any h and one s, where an output
    depends on the 3×3 neighbourhood of its position. The sums inside are exact, so a strip with a
    margin of one position above and below gives the integers that the whole map gives.
    """
    height, strip_height = a.shape[1], max(1, STRIP // a.shape[2])
    if strip_height >= height:
        return run(a)
    out: Tensor | None = None
    for start in range(0, height, strip_height):
        stop = min(start + strip_height, height)
        top, bottom = max(start - 1, 0), min(stop + 1, height)
        part = run(a[:, top:bottom])
        s = part.shape[1] // (bottom - top)
        if out is None:
            out = part.new_empty(part.shape[0], s * height, *part.shape[2:])
        out[:, s * start : s * stop] = part[:, s * (start - top) : s * (stop - top)]
    assert out is not None
    return out


def _pixel_shuffle(a: Tensor, r: int) -> Tensor:
    """(B, H, W, r·r·C) -> (B, r·H, r·W, C)."""
    B, H, W, C = a.shape
    return a.view(B, H, W, C // r**2, r, r).permute(0, 1, 4, 2, 5, 3).reshape(B, r * H, r * W, -1)
