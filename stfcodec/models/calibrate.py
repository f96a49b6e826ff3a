"""From float entropy networks to integer ones, by what the networks see of photographs.

Weights become int8 with one scale an output channel; activations become int8 with a step and a
zero point a channel, from the ranges that the photographs show. The choice only costs or saves
bits: whatever it is, encoder and decoder agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.errors import WeightsError
from stfcodec.models.base import CompressionModel
from stfcodec.models.blocks import Convolution
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.integer import (
    FRACTION,
    SCALE_FRACTION,
    TABLE,
    IntegerConv,
    IntegerEntropy,
    LinearConv,
    TableConv,
)
from stfcodec.models.integer_backends import BOUND, MAX_REACH
from stfcodec.models.lite import LiteModel
from stfcodec.models.lite_integer import FRACTION as FRACTION_OF_ROWS
from stfcodec.models.lite_integer import (
    MAGNITUDE_STEP,
    ROWS_A_UNIT,
    IntegerScales,
    shuffled_order,
)
from stfcodec.models.registry import LAMBDAS

MARGIN = 0.25
"""Ranges are widened by this share on both sides: other photographs reach further."""

_SPREAD = 2.0
"""No step of the context is larger than this many times the mean: it would leave the int8 weights
of all other channels only few levels."""

_DEAD = -6.0
"""Below this GELU is 0 to within 10⁻⁸, and no range needs to reach further down."""


@dataclass
class _Range:
    """What a tensor's channels hold: least, greatest, and the sum and count of the values."""

    low: Tensor
    high: Tensor
    total: Tensor
    count: int = 0

    @classmethod
    def empty(cls, channels: int) -> _Range:
        return cls(torch.zeros(channels), torch.zeros(channels), torch.zeros(channels).double())

    def add(self, x: Tensor) -> None:
        """x: (B, C, H, W)."""
        self.low = torch.minimum(self.low, x.amin((0, 2, 3)))
        self.high = torch.maximum(self.high, x.amax((0, 2, 3)))
        self.total += x.double().sum((0, 2, 3))
        self.count += x.shape[0] * x.shape[2] * x.shape[3]

    @property
    def mean(self) -> Tensor:
        return (self.total / max(self.count, 1)).float()

    @property
    def size(self) -> Tensor:
        return torch.maximum(-self.low, self.high) * (1 + MARGIN)


@dataclass(frozen=True)
class _Steps:
    """How real values of a tensor's channels become integers: round(x / step) + zero."""

    step: Tensor
    zero: Tensor
    reach: Tensor

    def join(self, *others: _Steps) -> _Steps:
        parts = (self, *others)
        return _Steps(
            torch.cat([p.step for p in parts]),
            torch.cat([p.zero for p in parts]),
            torch.cat([p.reach for p in parts]),
        )

    def __getitem__(self, channels: slice) -> _Steps:
        return _Steps(self.step[channels], self.zero[channels], self.reach[channels])


@torch.no_grad()
def quantise(model: CompressionModel, crops: Sequence[Tensor]) -> nn.Module:
    """The integer form of a model's entropy networks, ready to code.

    crops: batches (B, 3, H, W) of photographs, sides multiples of 64; each is seen at one
    quality, 1…6 in turn. Raises WeightsError where a layer cannot be made exact.
    """
    model.eval()
    with _watch(model) as ranges:
        for i, x in enumerate(crops):
            quality = 1.0 + i % len(LAMBDAS)
            y_hat = _see(model, model.analysis(x, quality).contiguous(), quality)
            ranges.setdefault(_Y, _Range.empty(y_hat.shape[1])).add(y_hat)
    if isinstance(model, LiteModel):
        return _LiteBuilder(model, ranges).build().prepare()
    return _ChannelwiseBuilder(model, ranges).build().prepare()


_Y = "y_hat"


def _see(model: CompressionModel, y: Tensor, quality: float) -> Tensor:
    """One pass through the float networks, as in coding. Returns ŷ before the inverse gain."""
    z, targets = model.targets(y, quality)

    def code(i: int, mean: Tensor, row: Tensor) -> Tensor:
        return torch.round(targets[i] - mean)

    return model.decode_symbols(z, quality, code)


@contextmanager
def _watch(model: CompressionModel) -> Iterator[dict[object, _Range]]:
    """Collects, for every convolution, the range of its input (conv, "in") and output."""
    ranges: dict[object, _Range] = {}

    def hook(conv: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
        for side, x in (("in", inputs[0]), ("out", output)):
            if isinstance(conv, Convolution):
                x = x.permute(0, 3, 1, 2)
            ranges.setdefault((conv, side), _Range.empty(x.shape[1])).add(x)

    hooks = [
        layer.register_forward_hook(hook)
        for name in model.integer_replaces
        for layer in model.get_submodule(name).modules()
        if isinstance(layer, nn.Conv2d)
    ]
    try:
        yield ranges
    finally:
        for h in hooks:
            h.remove()


class _Builder:
    """Fills layers of integers, in the order in which they run."""

    def __init__(self, ranges: dict[object, _Range]) -> None:
        self.ranges = ranges

    def _table(
        self,
        conv: nn.Conv2d,
        layer: TableConv,
        steps: _Steps,
        function: Callable[[Tensor], Tensor],
        step: float | None = None,
    ) -> _Steps:
        """Fills a layer whose tables hold `function`, with the step given or the finest one."""
        out = self.ranges[conv, "out"]
        room = (out.high - out.low) * MARGIN
        low = (out.low - room).clamp(_DEAD, -_DEAD)
        high = torch.maximum(out.high + room, low + 1)
        scale = self._weights(conv, layer, steps, low=low)
        shift = torch.ceil(torch.log2((high - low) / (scale * TABLE))).clamp(0, 24)
        layer.shift = shift.to(torch.uint8)
        width = torch.exp2(shift.double())
        places = torch.arange(TABLE).double() * width[:, None] + (width[:, None] - 1) / 2
        values = function(places * scale.double()[:, None] + low.double()[:, None])
        group = layer.shuffle**2
        if step is None:
            reachable = places * scale[:, None] < (high - low)[:, None]
            made = _fit(torch.where(reachable, values, 0.0), group)
        else:
            made = _Steps(torch.full_like(low, step), torch.zeros_like(low), torch.ones_like(low))
        unit, zero = (t.repeat_interleave(group)[:, None] for t in (made.step, made.zero))
        layer.table = (torch.round(values / unit) + zero).clamp(-128, 127).to(torch.int8)
        return made

    def _linear(self, conv: nn.Conv2d, layer: LinearConv, steps: _Steps, unit: Tensor) -> None:
        scale = self._weights(conv, layer, steps)
        layer.multiplier = scale / unit

    def _weights(
        self, conv: nn.Conv2d, layer: IntegerConv, steps: _Steps, low: Tensor | None = None
    ) -> Tensor:
        """Fills weights and bias; returns the scale (O,) of the sums. `low` becomes sum 0."""
        weight = conv.weight * steps.step[:, None, None]
        zero = torch.round(steps.zero)
        mean = self.ranges[conv, "in"].mean / steps.step
        scale = (weight.abs().amax((1, 2, 3)) / 127).clamp(min=1e-12)
        reach = steps.reach.long()
        for _ in range(400):
            rounded = torch.round(weight / scale[:, None, None, None]).clamp(-127, 127)
            taps = rounded.double().sum((2, 3))
            lost = weight.double().sum((2, 3)) - taps * scale[:, None]
            # The real bias; then what rounding the weights takes from the mean; then the zeros.
            bias = conv.bias.double() + (lost * mean).sum(1) - (0 if low is None else low)
            exact = bias / scale.double() - (taps * steps.zero.double()).sum(1)
            worst = IntegerConv.worst(rounded.to(torch.int8), exact.abs().ceil() + 1, reach)
            if not (bad := worst >= BOUND).any():
                break
            scale = torch.where(bad, scale * 1.05, scale)
        else:
            raise WeightsError("an output channel of an entropy network cannot be made exact")
        layer.weight = rounded.to(torch.int8)
        layer.bias = torch.round(exact).to(torch.int32)
        layer.zero = zero.to(torch.int16)
        layer.scale, layer.step = scale.clone(), steps.step.clone()
        layer.float_bias = conv.bias.detach().clone()
        return scale


class _ChannelwiseBuilder(_Builder):
    """Fills an IntegerEntropy, network by network."""

    def __init__(self, model: ChannelwiseModel, ranges: dict[object, _Range]) -> None:
        super().__init__(ranges)
        self.model, self.form = model, model.new_integer()

    def build(self) -> IntegerEntropy:
        model, form = self.model, self.form
        levels = model.gaussian_conditional.scale_table.double()[:-1]
        form.thresholds = torch.floor(levels * SCALE_FRACTION).to(torch.int32)
        medians = model.entropy_bottleneck.medians().flatten()
        # z's symbols are z − median; what pads them stands for 0, as in the float network.
        z = _Steps(torch.ones_like(medians), -medians, torch.ones_like(medians))
        means = self._hyper(model.h_mean_s, form.h_mean_s, z)
        scales = self._hyper(model.h_scale_s, form.h_scale_s, z)
        y = self._context_steps()
        for name, steps in (("means", means), ("scales", scales), ("y", y)):
            setattr(form, f"{name}_reach", steps.reach.to(torch.uint8))
        for i in range(model.slices):
            seen = y[: min(i, model.support) * form.width]
            own = y[i * form.width : (i + 1) * form.width]
            for name, steps in (
                ("cc_mean_transforms", means.join(seen)),
                ("cc_scale_transforms", scales.join(seen)),
                ("lrp_transforms", means.join(seen, own)),
            ):
                self._transform(getattr(model, name)[i], getattr(form, name)[i], steps)
        return form

    def _hyper(self, net: nn.Sequential, to: nn.Sequential, steps: _Steps) -> _Steps:
        convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
        for conv, layer in zip(convs[:-1], to, strict=False):
            steps = self._table(conv, layer, steps, F.gelu)
        out = self.ranges[convs[-1], "out"]
        made = _symmetric(out.size)
        self._linear(convs[-1], to[-1], steps, made.step)
        return made

    def _transform(self, net: nn.Sequential, to: nn.Sequential, steps: _Steps) -> None:
        convs = [m for m in net if isinstance(m, nn.Conv2d)]
        for conv, layer in zip(convs[:-1], to, strict=False):
            steps = self._table(conv, layer, steps, F.gelu)
        last = to[-1]
        if isinstance(last, TableConv):
            self._table(convs[-1], last, steps, _half_tanh, step=1 / FRACTION)
        else:
            unit = SCALE_FRACTION if last.low == 0 else FRACTION
            self._linear(convs[-1], last, steps, torch.full((len(last.bias),), 1 / unit))

    def _context_steps(self) -> _Steps:
        """Steps for ŷ, which comes in 1/FRACTION."""
        made = _symmetric(self.ranges[_Y].size)
        self.form.y_multiplier = 1 / (FRACTION * made.step)
        return made


class _LiteBuilder(_Builder):
    """Fills an IntegerScales."""

    def __init__(self, model: LiteModel, ranges: dict[object, _Range]) -> None:
        super().__init__(ranges)
        self.network, self.form = model.scales, model.new_integer()

    def build(self) -> IntegerScales:
        net, form = self.network, self.form
        channels = len(form.hyper[0].zero)
        steps = _Steps(torch.ones(channels), torch.zeros(channels), torch.ones(channels))
        for conv, layer in zip(net.hyper, form.hyper, strict=True):
            steps = self._table(self._reordered(conv, layer.shuffle), layer, steps, F.gelu)
        latents = len(form.first.bias)
        unit = torch.full((latents,), 1 / (ROWS_A_UNIT * FRACTION_OF_ROWS))
        self._linear(net.first, form.first, steps, unit)
        ones = torch.ones(latents)
        sizes = _Steps(MAGNITUDE_STEP * ones, 0 * ones, ones)
        steps = self._table(net.context, form.context, steps.join(sizes), F.gelu)
        self._linear(net.second, form.second, steps, unit)
        form.offset = torch.round(net.offset * (ROWS_A_UNIT * FRACTION_OF_ROWS)).to(torch.int32)
        return form

    def _reordered(self, conv: nn.Conv2d, r: int) -> nn.Conv2d:
        """A convolution whose outputs lie as a layer that shuffles integers wants them."""
        if r == 1:
            return conv
        order = shuffled_order(conv.out_channels, r)
        made = nn.Conv2d(conv.in_channels, conv.out_channels, 3)
        made.weight.copy_(conv.weight[order])
        made.bias.copy_(conv.bias[order])
        out = self.ranges[conv, "out"]
        self.ranges[made, "in"] = self.ranges[conv, "in"]
        self.ranges[made, "out"] = _Range(out.low[order], out.high[order], out.total[order])
        return made


def _symmetric(size: Tensor) -> _Steps:
    """Steps for values within ±size, none far above the others: large channels reach further."""
    step = (size / 127).clamp(min=1e-6)
    step = torch.minimum(step, _SPREAD * step.mean())
    reach = torch.ceil(size / (step * 127)).clamp(1, MAX_REACH)
    return _Steps(torch.maximum(step, size / (127 * reach)), torch.zeros_like(step), reach)


def _fit(values: Tensor, group: int) -> _Steps:
    """Steps and zero points for tables (O, TABLE); `group` neighbours share theirs."""
    values = values.view(len(values) // group, -1)
    low, high = values.amin(1).clamp(max=0), values.amax(1).clamp(min=0)
    step = ((high - low) / 254).clamp(min=1e-6)
    zero = torch.ceil(-low / step) - 128
    return _Steps(step.float(), zero.float(), torch.ones_like(step.float()))


def _half_tanh(x: Tensor) -> Tensor:
    return 0.5 * torch.tanh(x)
