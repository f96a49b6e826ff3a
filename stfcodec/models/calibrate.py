"""Calibration: the integer form of trained float entropy networks, from the ranges of their values.

Weights become int8 with one scale per output channel. Activations become int8 with a quantisation
step and a zero point per channel, chosen from the ranges that photographs show. The choice affects
the number of bits only: encoder and decoder agree whatever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.errors import WeightsError
from stfcodec.models.base import CompressionModel
from stfcodec.models.channelwise import ChannelwiseModel
from stfcodec.models.integer_backends import BOUND, MAX_REACH
from stfcodec.models.integer_entropy import MEAN_DENOMINATOR, SCALE_DENOMINATOR, IntegerEntropy
from stfcodec.models.integer_layers import TABLE_SIZE, IntegerConv, LinearConv, TableConv
from stfcodec.models.lite import LiteModel
from stfcodec.models.lite_integer import (
    LEVEL_DENOMINATOR,
    LEVELS_PER_UNIT,
    MAGNITUDE_STEP,
    IntegerScales,
    shuffled_order,
)
from stfcodec.models.value_ranges import MARGIN, Ranges, in_float64, measure_ranges

_MAX_STEP_RATIO = 2.0
"""Steps of the context are at most this many times their mean. A larger step would leave the int8
weights of all other channels only few levels."""

_GELU_ZERO = -6.0
"""Below this input GELU is 0 to within 10⁻⁸, so no range needs to extend further down."""


@dataclass(frozen=True)
class _Quantisation:
    """How real values of a tensor's channels become integers: round(x / step) + zero.

    All are (C,) float32. The integers are −128·reach…127·reach.
    """

    step: Tensor
    zero: Tensor
    reach: Tensor

    def join(self, *others: _Quantisation) -> _Quantisation:
        """The quantisation of concatenated channels."""
        parts = (self, *others)
        return _Quantisation(
            torch.cat([p.step for p in parts]),
            torch.cat([p.zero for p in parts]),
            torch.cat([p.reach for p in parts]),
        )

    def __getitem__(self, channels: slice) -> _Quantisation:
        return _Quantisation(self.step[channels], self.zero[channels], self.reach[channels])


@torch.no_grad()
def quantise(model: CompressionModel, crops: Sequence[Tensor]) -> nn.Module:
    """The integer form of a model's entropy networks, ready to code.

    The integers of a published network are the same on every machine, because ranges are measured
    in float64. crops: as for `measure_ranges`. Raises WeightsError where a layer cannot be made
    exact.
    """
    model = in_float64(model)
    ranges = measure_ranges(model, crops)
    if isinstance(model, LiteModel):
        return _LiteBuilder(model, ranges).build().prepare()
    assert isinstance(model, ChannelwiseModel)
    return _ChannelwiseBuilder(model, ranges).build().prepare()


class _Builder:
    """Fills integer layers from float convolutions, in the order in which they run."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges

    def _fill_table(
        self,
        conv: nn.Conv2d,
        layer: TableConv,
        inputs: _Quantisation,
        function: Callable[[Tensor], Tensor],
        step: float | None = None,
    ) -> _Quantisation:
        """Fill a layer with a convolution and a function; return how its outputs are quantised.

        step: of the outputs, whose zero point is then 0; by default the finest that spans them.
        """
        sums = self.ranges.outputs[conv]
        margin = (sums.high - sums.low) * MARGIN
        low = (sums.low - margin).clamp(_GELU_ZERO, -_GELU_ZERO)
        high = torch.maximum(sums.high + margin, low + 1)
        scale = self._fill_weights(conv, layer, inputs, origin=low)
        ratio = (high - low).double() / (scale.double() * TABLE_SIZE)
        shift = torch.ceil(torch.log2(ratio)).clamp(0, 24)
        layer.shift = shift.to(torch.uint8)
        width = torch.exp2(shift.double())
        centres = torch.arange(TABLE_SIZE).double() * width[:, None] + (width[:, None] - 1) / 2
        values = function(centres * scale.double()[:, None] + low.double()[:, None])
        shuffled = layer.shuffle**2
        if step is None:
            in_range = centres * scale[:, None] < (high - low)[:, None]
            outputs = _spanning(torch.where(in_range, values, 0.0), shuffled)
        else:
            zero, one = torch.zeros_like(low), torch.ones_like(low)
            outputs = _Quantisation(torch.full_like(low, step), zero, one)
        steps, zeros = (
            t.repeat_interleave(shuffled)[:, None] for t in (outputs.step, outputs.zero)
        )
        layer.table = (torch.round(values / steps) + zeros).clamp(-128, 127).to(torch.int8)
        return outputs

    def _fill_hidden(
        self, pairs: Sequence[tuple[nn.Conv2d, IntegerConv]], inputs: _Quantisation
    ) -> _Quantisation:
        """Fill a chain of layers with GELU; return how the last one's outputs are quantised."""
        for conv, layer in pairs:
            assert isinstance(layer, TableConv)
            inputs = self._fill_table(conv, layer, inputs, F.gelu)
        return inputs

    def _fill_linear(
        self, conv: nn.Conv2d, layer: LinearConv, inputs: _Quantisation, step: Tensor
    ) -> None:
        """Fill a layer with a convolution. step: (O,), of the outputs, whose zero point is 0."""
        scale = self._fill_weights(conv, layer, inputs)
        layer.multiplier = scale / step

    def _fill_weights(
        self,
        conv: nn.Conv2d,
        layer: IntegerConv,
        inputs: _Quantisation,
        origin: Tensor | None = None,
    ) -> Tensor:
        """Fill weights and bias; return the scale (O,), the real value of 1 in the sums.

        origin: (O,), the real value of the sum 0, by default 0.
        """
        assert conv.bias is not None
        weight = conv.weight.float() * inputs.step[:, None, None]
        zero = torch.round(inputs.zero)
        mean = self.ranges.inputs[conv].mean / inputs.step
        scale = (weight.abs().amax((1, 2, 3)) / 127).clamp(min=1e-12)
        reach = inputs.reach.long()
        for _ in range(400):
            rounded = torch.round(weight / scale[:, None, None, None]).clamp(-127, 127)
            taps = rounded.double().sum((2, 3))
            lost = weight.double().sum((2, 3)) - taps * scale[:, None]
            # The bias makes up for the mean that rounding the weights loses, for the origin, and
            # for the zero points of the inputs.
            bias = conv.bias.double() + (lost * mean).sum(1) - (0 if origin is None else origin)
            exact = bias / scale.double() - (taps * inputs.zero.double()).sum(1)
            bound = exact.abs().ceil() + 1
            largest = IntegerConv.largest_sums(rounded.to(torch.int8), bound, reach)
            if not (inexact := largest >= BOUND).any():
                break
            scale = torch.where(inexact, scale * 1.05, scale)
        else:
            raise WeightsError("an output channel of an entropy network cannot be made exact")
        layer.weight = rounded.to(torch.int8)
        layer.bias = torch.round(exact).to(torch.int32)
        layer.zero = zero.to(torch.int16)
        layer.scale, layer.step = scale.clone(), inputs.step.clone()
        layer.float_bias = conv.bias.detach().float()
        return scale


class _ChannelwiseBuilder(_Builder):
    """Fills an IntegerEntropy, network by network."""

    def __init__(self, model: ChannelwiseModel, ranges: Ranges) -> None:
        super().__init__(ranges)
        self.model = model
        self.form: IntegerEntropy = model.new_integer()

    def build(self) -> IntegerEntropy:
        model, form = self.model, self.form
        levels = model.gaussian_conditional.scale_table.double()[:-1]
        form.thresholds = torch.floor(levels * SCALE_DENOMINATOR).to(torch.int32)
        # Symbols of z are z − median. The zero point, with which maps are padded, stands for z = 0.
        medians = model.entropy_bottleneck.medians().flatten().float()
        z = _Quantisation(torch.ones_like(medians), -medians, torch.ones_like(medians))
        means = self._fill_hyper_synthesis(model.h_mean_s, form.h_mean_s, z)
        scales = self._fill_hyper_synthesis(model.h_scale_s, form.h_scale_s, z)
        y = _symmetric(self.ranges.y_hat.magnitude)
        form.y_multiplier = 1 / (MEAN_DENOMINATOR * y.step)
        form.means_reach = means.reach.to(torch.uint8)
        form.scales_reach = scales.reach.to(torch.uint8)
        form.y_reach = y.reach.to(torch.uint8)
        for i in range(model.slices):
            seen = y[: min(i, model.support) * form.width]
            own = y[i * form.width : (i + 1) * form.width]
            for name, inputs in (
                ("cc_mean_transforms", means.join(seen)),
                ("cc_scale_transforms", scales.join(seen)),
                ("lrp_transforms", means.join(seen, own)),
            ):
                self._fill_transform(getattr(model, name)[i], getattr(form, name)[i], inputs)
        return form

    def _fill_hyper_synthesis(
        self, net: nn.Module, layers: nn.Module, z: _Quantisation
    ) -> _Quantisation:
        """Fill the layers of h_s; return how its outputs are quantised."""
        *hidden, (conv, last) = _pairs(net, layers)
        quantisation = self._fill_hidden(hidden, z)
        assert isinstance(last, LinearConv)
        outputs = _symmetric(self.ranges.outputs[conv].magnitude)
        self._fill_linear(conv, last, quantisation, outputs.step)
        return outputs

    def _fill_transform(self, net: nn.Module, layers: nn.Module, inputs: _Quantisation) -> None:
        """Fill the layers of a mean, scale or LRP transform."""
        *hidden, (conv, last) = _pairs(net, layers)
        quantisation = self._fill_hidden(hidden, inputs)
        if isinstance(last, TableConv):
            self._fill_table(conv, last, quantisation, _half_tanh, step=1 / MEAN_DENOMINATOR)
            return
        assert isinstance(last, LinearConv)
        # Scales, unlike means, are clamped at 0.
        denominator = SCALE_DENOMINATOR if last.low == 0 else MEAN_DENOMINATOR
        step = torch.full((len(last.bias),), 1 / denominator)
        self._fill_linear(conv, last, quantisation, step)


class _LiteBuilder(_Builder):
    """Fills an IntegerScales."""

    def __init__(self, model: LiteModel, ranges: Ranges) -> None:
        super().__init__(ranges)
        self.widths, self.network = model.widths, model.scales
        self.form: IntegerScales = model.new_integer()

    def build(self) -> IntegerScales:
        net, form = self.network, self.form
        z_ones, y_ones = (torch.ones(n) for n in (self.widths.hyper_latents, self.widths.latents))
        z = _Quantisation(z_ones, 0 * z_ones, z_ones)
        pairs = [(self._reordered(c, n), n) for c, n in _pairs(net.hyper, form.hyper)]
        features = self._fill_hidden(pairs, z)
        levels = LEVELS_PER_UNIT * LEVEL_DENOMINATOR
        step = y_ones / levels
        self._fill_linear(net.first, form.first, features, step)
        magnitudes = _Quantisation(MAGNITUDE_STEP * y_ones, 0 * y_ones, y_ones)
        context = self._fill_table(net.context, form.context, features.join(magnitudes), F.gelu)
        self._fill_linear(net.second, form.second, context, step)
        form.offset = torch.round(net.offset * levels).to(torch.int32)
        return form

    def _reordered(self, conv: nn.Conv2d, layer: IntegerConv) -> nn.Conv2d:
        """The convolution with its output channels in the order that the layer shuffles."""
        if not isinstance(layer, TableConv) or layer.shuffle == 1:
            return conv
        assert conv.bias is not None
        order = shuffled_order(conv.out_channels, layer.shuffle)
        reordered = nn.Conv2d(conv.in_channels, conv.out_channels, 3)
        reordered.weight.copy_(conv.weight[order])
        reordered.bias = nn.Parameter(conv.bias[order])
        self.ranges.inputs[reordered] = self.ranges.inputs[conv]
        self.ranges.outputs[reordered] = self.ranges.outputs[conv][order]
        return reordered


def _pairs(net: nn.Module, layers: nn.Module) -> list[tuple[nn.Conv2d, IntegerConv]]:
    """The convolutions of a float network, each with the layer that replaces it."""
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    integers = [m for m in layers.modules() if isinstance(m, IntegerConv)]
    return list(zip(convs, integers, strict=True))


def _symmetric(magnitude: Tensor) -> _Quantisation:
    """The quantisation of values within ±magnitude (C,), with zero points 0.

    No step is far above the mean step; channels that would need a larger one get a larger reach.
    """
    step = (magnitude / 127).clamp(min=1e-6)
    step = torch.minimum(step, _MAX_STEP_RATIO * step.double().mean().float())
    reach = torch.ceil(magnitude / (step * 127)).clamp(1, MAX_REACH)
    step = torch.maximum(step, magnitude / (127 * reach))
    return _Quantisation(step, torch.zeros_like(step), reach)


def _spanning(values: Tensor, group: int) -> _Quantisation:
    """The finest quantisation that spans tables (O, TABLE_SIZE), and 0.

    `group` neighbouring tables share a step and a zero point, so the result has O / group channels.
    """
    values = values.view(len(values) // group, -1)
    low, high = values.amin(1).clamp(max=0), values.amax(1).clamp(min=0)
    step = ((high - low) / 254).clamp(min=1e-6)
    zero = torch.ceil(-low / step) - 128
    return _Quantisation(step.float(), zero.float(), torch.ones_like(step.float()))


def _half_tanh(x: Tensor) -> Tensor:
    return 0.5 * torch.tanh(x)
