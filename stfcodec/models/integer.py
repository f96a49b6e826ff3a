"""The entropy networks in integer arithmetic: equal inputs give equal symbols on every machine.

Whatever decides a symbol's probability is computed here from ẑ's integer symbols, by sums of
products of integers, which are exact in any order (`backends.py`) as long as no partial sum
outgrows its backend: `IntegerConv.prove` shows that for every output channel. Between the sums
stand multiplications by constants, rounding, clamping and table look-ups, one element at a time,
of which IEEE 754 leaves no choice of result.

Activations are integers −128·r…127·r, carried in float32 (r is 1 nearly everywhere). Each
channel has a step and a zero point, known at calibration only: they are folded into the weights,
the bias and the tables. Feature maps are (B, H, W, C) in this file.

See docs/exactness.md. Sources: Ballé et al., "Integer networks for data compression with
latent-variable models" (ICLR 2019); Jacob et al., "Quantization and training of neural networks
for efficient integer-arithmetic-only inference" (CVPR 2018).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from stfcodec.errors import WeightsError
from stfcodec.models.integer_backends import BOUND, MAX_REACH, Backend, Kernel, best_backend
from stfcodec.models.registry import EntropyWidths

_M = TypeVar("_M", bound=nn.Module)

TABLE = 512
"""Entries of an activation's table, one table an output channel."""

FRACTION = 128
"""Means and ŷ are multiples of 1/128: LRP's ±½ just fits the int8 entries of its tables."""

SCALE_FRACTION = 1024
"""Scales are multiples of 1/1024; the two smallest levels lie 15 of them apart."""

MAX_SYMBOL = (1 << 15) - 1
MAX_MEAN = 1 << 22
MAX_SCALE = 1 << 18
"""Clamps, so that ŷ stays within BOUND: a hostile stream may hold any symbol."""

STRIP = 1 << 15
"""Positions of a map that are worked on at a time."""

_LARGE = 2 * STRIP
"""Positions from which on sums are made slice by slice: all at once they would fill the memory."""

NETWORKS = (
    "h_mean_s",
    "h_scale_s",
    "cc_mean_transforms",
    "cc_scale_transforms",
    "lrp_transforms",
)
"""What has an integer form, by its name in the float model."""

# ------------------------------------------------------------------------------------- layers


class IntegerConv(nn.Module, ABC):
    """A 3×3 convolution of integers, then what turns its sums into the next integers.

    `scale` (O,) and `step` (C,) are no part of the arithmetic: a float weight is
    weight · scale / step, which `dequantise` gives back for training to go on from.
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

    def prepare(self, backend: Backend, reach: Tensor | None = None, here: bool = True) -> None:
        """Checks the proof and makes ready to run. reach: (C,) int64, default 1. here: whether the
        sums are made by this layer, and not elsewhere, to be finished here.
        """
        reach = torch.ones_like(self.zero, dtype=torch.int64) if reach is None else reach
        self.prove(reach)
        self.kernel = Kernel(self.weight, self.factor, reach, self.zero.float(), self.bias.float())
        if here:
            self.sums = backend.prepare(self.kernel)
        else:
            self.finish = backend.finish(self.kernel)

    @property
    def factor(self) -> Tensor:
        """(O,) powers of two: what sums come multiplied by."""
        return torch.ones_like(self.scale)

    def prove(self, reach: Tensor) -> None:
        """Raises WeightsError unless Σ|w|·max|a| + |b| < 2²⁴ for every output channel."""
        worst = self.worst(self.weight, self.bias, reach)
        if int(worst.max()) >= BOUND:
            raise WeightsError(
                f"output channel {int(worst.argmax())} of an integer layer may reach "
                f"{int(worst.max())}, not below {BOUND}: its sums would not be exact"
            )

    @staticmethod
    def worst(weight: Tensor, bias: Tensor, reach: Tensor) -> Tensor:
        """(O,) int64: the largest magnitude that any partial sum can have."""
        size = weight.to(torch.int16).abs().sum((2, 3), dtype=torch.int64)
        return (size * reach).sum(1) * 128 + bias.to(torch.int64).abs()

    def forward(self, a: Tensor) -> Tensor:
        """Integers (B, H, W, C) -> integers (B, H, W, O), int8 or carried in float32."""
        return _by_strips(self.integers, a)

    @abstractmethod
    def integers(self, a: Tensor) -> Tensor:
        """`forward` of one strip."""

    def dequantise(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the float convolution that this one stands for."""
        scale = self.scale[:, None, None, None]
        return self.weight * scale / self.step[:, None, None], self.float_bias


class TableConv(IntegerConv):
    """The sums, shifted right by `shift`, are the places in each channel's table.

    The tables hold GELU or tanh, the step and zero point of what comes out, and the scale of the
    sums: the bias has moved the first place to 0. With `shuffle` 2, four channels become the four
    pixels of one at twice the resolution.
    """

    shift: Tensor
    table: Tensor

    def __init__(self, c_in: int, c_out: int, shuffle: int = 1) -> None:
        super().__init__(c_in, c_out)
        self.shuffle = shuffle
        self.register_buffer("shift", torch.zeros(c_out, dtype=torch.uint8))
        self.register_buffer("table", torch.zeros(c_out, TABLE, dtype=torch.int8))

    @property
    def factor(self) -> Tensor:
        return torch.pow(2.0, -self.shift.float())

    def prepare(self, backend: Backend, reach: Tensor | None = None, here: bool = True) -> None:
        super().prepare(backend, reach, here)
        self._entries = self.table.flatten().to(backend.entries)
        starts = torch.arange(len(self.table), dtype=torch.int32) * TABLE
        self._starts = starts.to(self.table.device)

    def integers(self, a: Tensor) -> Tensor:
        return self.look_up(self.sums(a))

    def look_up(self, sums: Tensor) -> Tensor:
        """Sums times factor (B, H, W, O), which are overwritten -> (B, H, W, O), as the backend
        wants them."""
        # Of a number that is not negative, int() is the floor.
        places = sums.clamp_(0, TABLE - 1).int().add_(self._starts)
        values = self._entries.index_select(0, places.flatten()).view(places.shape)
        return values if self.shuffle == 1 else _pixel_shuffle(values, self.shuffle)


class LinearConv(IntegerConv):
    """The sums times `multiplier`, rounded half to even and clamped to low…high."""

    multiplier: Tensor

    def __init__(self, c_in: int, c_out: int, low: int, high: int) -> None:
        super().__init__(c_in, c_out)
        self.low, self.high = low, high
        self.register_buffer("multiplier", torch.zeros(c_out, dtype=torch.float32))

    def integers(self, a: Tensor) -> Tensor:
        # One operation at a time: what multiplies and adds at once may round otherwise.
        return self.sums(a).mul_(self.multiplier).round_().clamp_(self.low, self.high)


def _by_strips(run: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
    """run(a), a 3×3 neighbourhood's function of a (B, H, W, C), in bounded memory.

    Sums are integers, so that strips with one more row on each side give what the whole map does.
    """
    H, rows = a.shape[1], max(1, STRIP // a.shape[2])
    if rows >= H:
        return run(a)
    out: Tensor | None = None
    for start in range(0, H, rows):
        stop = min(start + rows, H)
        top, bottom = max(start - 1, 0), min(stop + 1, H)
        part = run(a[:, top:bottom])
        scale = part.shape[1] // (bottom - top)
        if out is None:
            out = part.new_empty(part.shape[0], scale * H, *part.shape[2:])
        kept = part[:, scale * (start - top) : scale * (stop - top)]
        out[:, scale * start : scale * stop] = kept
    assert out is not None
    return out


def _pixel_shuffle(a: Tensor, r: int) -> Tensor:
    B, H, W, C = a.shape
    return a.view(B, H, W, C // r**2, r, r).permute(0, 1, 4, 2, 5, 3).reshape(B, r * H, r * W, -1)


# ----------------------------------------------------------------------------------- networks


def _hyper_synthesis(w: tuple[int, ...]) -> nn.Sequential:
    limit = 128 * MAX_REACH
    return nn.Sequential(
        TableConv(w[0], w[1]),
        TableConv(w[1], 4 * w[2], shuffle=2),
        TableConv(w[2], w[3]),
        TableConv(w[3], 4 * w[4], shuffle=2),
        LinearConv(w[4], w[5], -limit, limit),
    )


def _transform(widths: tuple[int, ...], last: IntegerConv) -> nn.Sequential:
    return nn.Sequential(*(TableConv(a, b) for a, b in pairwise(widths)), last)


class _Part:
    """One tensor of the context, and the columns that several first layers have for it."""

    def __init__(self, layers: dict[str, Kernel], backend: Backend) -> None:
        self.layers, self.backend = layers, backend
        kernels = list(layers.values())
        joint = kernels[0]._replace(
            **{f: torch.cat([getattr(k, f) for k in kernels]) for f in ("weight", "factor", "bias")}
        )
        self.together = backend.partial(joint)

    def add_all(self, sums: dict[str, Tensor], a: Tensor) -> None:
        """Adds what `a` contributes to the sums of every layer."""
        widths = [len(k.weight) for k in self.layers.values()]
        found = _by_strips(self.together, a).split(widths, 3)
        for key, part in zip(self.layers, found, strict=True):
            _add(sums, key, part)

    def add(self, sums: dict[str, Tensor], a: Tensor, key: str) -> None:
        """Adds what `a` contributes to the sums of one layer."""
        _add(sums, key, _by_strips(self.backend.partial(self.layers[key]), a))


def _add(sums: dict[str, Tensor], key: str, part: Tensor) -> None:
    sums[key] = sums[key].add_(part) if key in sums else part


class _FirstSums:
    """Sums of the transforms' first layers, out of what of the context is known so far.

    What comes is convolved at once for all layers that will ever see it; on a large map, where all
    those sums would take too much memory, for a layer when it is that layer's turn.
    """

    def __init__(self, parts: dict[str, _Part], large: bool) -> None:
        self.parts, self.large = parts, large
        self.sums: dict[str, Tensor] = {}
        self.seen: list[tuple[_Part, Tensor]] = []

    def see(self, what: str, a: Tensor) -> None:
        """a (B, H, W, C), of the context."""
        part = self.parts.get(what)
        if part is None:
            return
        if self.large:
            self.seen.append((part, a.to(torch.int16)))  # half the memory
        else:
            part.add_all(self.sums, a)

    def take(self, key: str) -> Tensor:
        """The sums (B, H, W, O) of one layer, to be finished by it."""
        for part, a in self.seen:
            if key in part.layers:
                part.add(self.sums, a, key)
        return self.sums.pop(key)


class IntegerEntropy(nn.Module):
    """h_s, the context transforms, LRP and scale -> CDF index, of integers only.

    `means_reach`, `scales_reach` and `y_reach` (M,) say how many times int8 each channel of the
    context may reach; `y_multiplier` (M,) makes it of ŷ in 1/128.
    """

    means_reach: Tensor
    scales_reach: Tensor
    y_reach: Tensor
    y_multiplier: Tensor
    thresholds: Tensor

    def __init__(self, widths: EntropyWidths, levels: int = 64) -> None:
        super().__init__()
        M, S = widths.latents, widths.slices
        c = M // S
        self.slices, self.support, self.width = S, widths.support, c
        self.h_mean_s = _hyper_synthesis(widths.h_s)
        self.h_scale_s = _hyper_synthesis(widths.h_s)
        seen = [M + c * min(i, widths.support) for i in range(S)]
        hidden = widths.context
        self.cc_mean_transforms = nn.ModuleList(
            _transform((n, *hidden), LinearConv(hidden[-1], c, -MAX_MEAN, MAX_MEAN)) for n in seen
        )
        self.cc_scale_transforms = nn.ModuleList(
            _transform((n, *hidden), LinearConv(hidden[-1], c, 0, MAX_SCALE)) for n in seen
        )
        self.lrp_transforms = nn.ModuleList(
            _transform((n + c, *hidden), TableConv(hidden[-1], c)) for n in seen
        )
        for name in ("means_reach", "scales_reach", "y_reach"):
            self.register_buffer(name, torch.ones(M, dtype=torch.uint8))
        self.register_buffer("y_multiplier", torch.ones(M, dtype=torch.float32))
        self.register_buffer("thresholds", torch.zeros(levels - 1, dtype=torch.int32))

    def prepare(self, backend: Backend | None = None) -> IntegerEntropy:
        """Proves every layer exact and makes it ready on the device that its buffers are on.

        Raises WeightsError where a layer is not exact.
        """
        backend = backend or best_backend(self.thresholds.device)
        means, scales, y = (
            t.to(torch.int64) for t in (self.means_reach, self.scales_reach, self.y_reach)
        )
        for t in (means, scales, y):
            if not 1 <= int(t.min()) <= int(t.max()) <= MAX_REACH:
                raise WeightsError(f"damaged integer weights: a reach is outside 1..{MAX_REACH}")
        for net in (self.h_mean_s, self.h_scale_s):
            for layer in net:
                layer.prepare(backend)
        slices = y.split(self.width)
        for i in range(self.slices):
            seen = slices[: min(i, self.support)]
            for name, reach in (
                ("cc_mean_transforms", (means, *seen)),
                ("cc_scale_transforms", (scales, *seen)),
                ("lrp_transforms", (means, *seen, slices[i])),
            ):
                first, *others = self.get_submodule(name)[i]
                first.prepare(backend, torch.cat(reach), here=False)
                for layer in others:
                    layer.prepare(backend)
        self._parts = self._cut_first_layers(backend)
        self._reaches = [t.float() for t in (means, scales, y)]
        if (self.thresholds.diff() < 0).any():
            raise WeightsError("damaged integer weights: the thresholds of scales do not rise")
        scales = torch.arange(MAX_SCALE + 1, dtype=torch.int32, device=self.thresholds.device)
        self._levels = torch.bucketize(scales, self.thresholds).to(torch.uint8)
        return self

    def _cut_first_layers(self, backend: Backend) -> dict[str, _Part]:
        """The transforms' first layers by what they see, not by whom they belong to.

        Each tensor of the context is then convolved once, for all that will ever look at it,
        and only the sums are kept.
        """
        M, c = len(self.means_reach), self.width
        names, every, head = ("cc_mean", "cc_scale", "lrp"), range(self.slices), slice(0, M)

        def at(place: int) -> slice:
            return slice(M + c * place, M + c * (place + 1))

        users: dict[str, list[tuple[str, int, slice]]] = {
            "means": [(n, i, head) for n in ("cc_mean", "lrp") for i in every],
            "scales": [("cc_scale", i, head) for i in every],
        }
        for j in every:
            users[f"own{j}"] = [("lrp", j, at(min(j, self.support)))]
            if j < self.support and j + 1 < self.slices:
                users[f"slice{j}"] = [(n, i, at(j)) for n in names for i in every[j + 1 :]]
        return {
            what: _Part(
                {
                    f"{n}{i}": self.get_submodule(f"{n}_transforms")[i][0].kernel.columns(inputs)
                    for n, i, inputs in layers
                },
                backend,
            )
            for what, layers in users.items()
        }

    def decode_slices(self, z: Tensor, code: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
        """ŷ (B, M, 4·h, 4·w), multiples of 1/128, from ẑ's symbols (B, N, h, w).

        `code(slice, mean, index)` gets each latent's mean, a multiple of 1/128, and the row of
        its CDF table (uint8), both (B, c, 4·h, 4·w), and returns the symbols.
        """
        z = z.permute(0, 2, 3, 1).clamp(-128, 127)
        B, H, W, _ = z.shape
        H, W = 4 * H, 4 * W
        first_sums = _FirstSums(self._parts, large=B * H * W > _LARGE)

        def rest(name: str, i: int) -> Tensor:
            first, *others = self.get_submodule(f"{name}_transforms")[i]
            a = first.look_up(first.finish(first_sums.take(f"{name}{i}")))
            for layer in others:
                a = layer(a)
            return a

        first_sums.see("means", _clamp(self.h_mean_s(z), self._reaches[0]))
        first_sums.see("scales", _clamp(self.h_scale_s(z), self._reaches[1]))
        y_hat = z.new_empty(B, H, W, self.slices * self.width)
        for i, own in enumerate(y_hat.split(self.width, 3)):
            mean = rest("cc_mean", i)
            scale = rest("cc_scale", i)
            index = self._levels.index_select(0, scale.int().flatten()).view(scale.shape)
            symbols = code(i, _nchw(mean) / FRACTION, _nchw(index))
            y = symbols.clamp(-MAX_SYMBOL, MAX_SYMBOL).permute(0, 2, 3, 1) * FRACTION + mean
            first_sums.see(f"own{i}", self._context(i, y))
            y = y + rest("lrp", i)
            first_sums.see(f"slice{i}", self._context(i, y))
            torch.div(y, FRACTION, out=own)
        return _nchw(y_hat)

    def dequantise_into(self, model: nn.Module) -> None:
        """Gives the float networks of a model the weights that this form stands for."""
        for name in NETWORKS:
            layers = _of_type(self.get_submodule(name), IntegerConv)
            convs = _of_type(model.get_submodule(name), nn.Conv2d)
            with torch.no_grad():
                for layer, conv in zip(layers, convs, strict=True):
                    weight, bias = layer.dequantise()
                    conv.weight.copy_(weight)
                    conv.bias.copy_(bias)

    def _context(self, i: int, y: Tensor) -> Tensor:
        """Slice i of ŷ, in 1/128, in the steps that the transforms see it in."""
        channels = slice(i * self.width, (i + 1) * self.width)
        steps = (y * self.y_multiplier[channels]).round_()
        return _clamp(steps, self._reaches[2][channels])


def _of_type(net: nn.Module, kind: type[_M]) -> list[_M]:
    return [m for m in net.modules() if isinstance(m, kind)]


def _clamp(a: Tensor, reach: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(a, -128 * reach), 127 * reach)


def _nchw(a: Tensor) -> Tensor:
    return a.permute(0, 3, 1, 2)
