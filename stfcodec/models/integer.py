"""The entropy networks in integer arithmetic: equal inputs give equal symbols on every machine.

Whatever decides a symbol's probability is computed here from ẑ's integer symbols, by sums of
products of integers. A sum is exact in any order, with any number of threads and in any memory
layout, as long as no partial sum outgrows its carrier, which `IntegerConv.prove` shows for every
output channel. Between the sums stand multiplications by constants, rounding, clamping and table
look-ups, one element at a time, of which IEEE 754 leaves no choice of result.

Activations are integers −128·r…127·r, carried in float32 (r is 1 nearly everywhere). Each
channel has a step and a zero point, known at calibration only: they are folded into the weights,
the bias and the tables. Feature maps are (B, H, W, C) in this file.

See docs/exactness.md. Sources: Ballé et al., "Integer networks for data compression with
latent-variable models" (ICLR 2019); Jacob et al., "Quantization and training of neural networks
for efficient integer-arithmetic-only inference" (CVPR 2018).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stfcodec.errors import WeightsError
from stfcodec.models.registry import EntropyWidths

_M = TypeVar("_M", bound=nn.Module)

BOUND = 1 << 24
"""float32 holds every integer up to here, and so every partial sum below it."""

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

MAX_REACH = 8

STRIP = 1 << 15
"""Positions of a map that are worked on at a time."""

_CPU = torch.device("cpu")

NETWORKS = (
    "h_mean_s",
    "h_scale_s",
    "cc_mean_transforms",
    "cc_scale_transforms",
    "lrp_transforms",
)
"""What has an integer form, by its name in the float model."""

# ----------------------------------------------------------------------------------- carriers


class Carrier(Protocol):
    """A way to convolve integers exactly. All carriers give the same integers."""

    def prepare(self, weight: Tensor, reach: Tensor) -> Tensor:
        """int8 weights (O, C, 3, 3) and each input channel's r (C,), as `convolve` wants them."""
        ...

    def convolve(self, a: Tensor, weight: Tensor, zero: Tensor, reach: Tensor) -> Tensor:
        """3×3 sums, without bias: a (B, H, W, C) of any type, padded with `zero` (C,), ->
        float32 (B, H, W, O)."""
        ...


class FloatCarrier:
    """Integers in float32 convolutions: exact below BOUND on every CPU.

    Not for CUDA, where TF32, Winograd's algorithm or a Fourier transform may stand for a
    convolution.
    """

    def prepare(self, weight: Tensor, reach: Tensor) -> Tensor:
        return weight.float().contiguous(memory_format=torch.channels_last)

    def convolve(self, a: Tensor, weight: Tensor, zero: Tensor, reach: Tensor) -> Tensor:
        framed = bool(zero.any())  # else the convolution's own frame of zeros does, without a copy
        a = _pad(a, zero, torch.float32) if framed else a.float()
        with torch.autocast("cpu", enabled=False):  # it may be on in the program around us
            sums = F.conv2d(a.permute(0, 3, 1, 2), weight, padding=0 if framed else 1)
        return sums.permute(0, 2, 3, 1).contiguous()


class Int8Carrier:
    """int8 matrix products with int32 sums on unfolded feature maps; quick with VNNI.

    A channel that reaches r times beyond int8 is cut into r summands that do not, all with the
    channel's weights. `aligned`: zeros fill rows to multiples of 8 and their number to 17 or more,
    as CUDA's product demands; it takes columns by the 8 too, and every model's widths are such.
    """

    def __init__(self, aligned: bool = False) -> None:
        self.aligned = aligned

    def prepare(self, weight: Tensor, reach: Tensor) -> Tensor:
        summands = torch.cat([weight[:, reach > r] for r in range(int(reach.max()))], 1)
        columns = summands.permute(0, 2, 3, 1).reshape(len(weight), -1)
        if self.aligned:
            columns = F.pad(columns, (0, -columns.shape[1] % 8))
        return columns.contiguous().t()

    def convolve(self, a: Tensor, weight: Tensor, zero: Tensor, reach: Tensor) -> Tensor:
        a, zero = self._cut(a, zero, reach)
        B, H, W, C = a.shape
        padded = _pad(a, zero, torch.int8)
        # Three neighbours in a row lie side by side in memory.
        s = padded.stride()
        windows = padded.as_strided((B, H, W, 3, 3 * C), (s[0], s[1], s[2], s[1], 1))
        rows = windows.reshape(B * H * W, 9 * C)
        if self.aligned:
            rows = F.pad(rows, (0, -rows.shape[1] % 8, 0, max(0, 17 - rows.shape[0])))
        # On a map one position wide the rows would overlap in memory: the product gets them wrong.
        sums = torch._int_mm(rows.contiguous(), weight)[: B * H * W]
        return sums.float().view(B, H, W, -1)

    @staticmethod
    def _cut(a: Tensor, zero: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        if a.dtype == torch.int8:
            return a, zero
        summands, zeros, rest = [a.clamp(-128, 127)], [zero], a
        for r in range(1, int(reach.max())):
            further = reach[reach > r - 1] > r
            rest = (rest - rest.clamp(-128, 127))[..., further]
            summands.append(rest.clamp(-128, 127))
            zeros.append(torch.zeros_like(zero[reach > r]))
        return torch.cat(summands, 3), torch.cat(zeros)


def _pad(a: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
    """A frame of zero points, one pixel wide, around a (B, H, W, C)."""
    B, H, W, C = a.shape
    padded = zero.to(dtype).expand(B, H + 2, W + 2, C).contiguous()
    padded[:, 1:-1, 1:-1] = a
    return padded


class ReferenceCarrier:
    """float64 matrix products, exact to 2⁵³ in any order: slow, and right wherever there is
    IEEE 754. TF32 and autocast leave float64 alone."""

    def prepare(self, weight: Tensor, reach: Tensor) -> Tensor:
        return weight.flatten(1).double()

    def convolve(self, a: Tensor, weight: Tensor, zero: Tensor, reach: Tensor) -> Tensor:
        B, H, W, _ = a.shape
        columns = F.unfold(_pad(a, zero, torch.float64).permute(0, 3, 1, 2), 3)
        return (weight @ columns).transpose(1, 2).reshape(B, H, W, -1).float()


def _is_exact(carrier: Carrier, device: torch.device) -> bool:
    """Whether the carrier passes a test there with the extremes of weights and activations.

    Finds fast convolutions that are no plain sums, int8 instructions that saturate, and inputs
    that are rounded. The sums stay below BOUND.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (32, 72, 3, 3), generator=generator).to(torch.int8)
    weight[0], weight[1] = 127, -127
    reach = torch.ones(72, dtype=torch.int64)
    reach[5], reach[64] = 3, MAX_REACH
    a = torch.randint(-128, 128, (1, 8, 8, 72), generator=generator) * reach
    a[:, :4] = -128 * reach
    a[:, 4:, :4] = 127 * reach
    a[:, 2:6, 2:6, 64] = torch.arange(1001, 1017).view(4, 4)
    weight, reach, a = weight.to(device), reach.to(device), a.float().to(device)
    zero = torch.full((72,), -128.0, device=device)
    try:
        sums = carrier.convolve(a, carrier.prepare(weight, reach), zero, reach)
    except (RuntimeError, AttributeError):
        return False
    reference = ReferenceCarrier()
    expected = reference.convolve(a, reference.prepare(weight, reach), zero, reach)
    return torch.equal(sums, expected)


@cache
def best_carrier(device: torch.device = _CPU) -> Carrier:
    """The quickest carrier that is exact there."""
    carriers: list[Carrier] = [Int8Carrier(aligned=True)]
    if device.type == "cpu":
        carriers = [Int8Carrier(), FloatCarrier()] if "vnni" in _cpu_flags() else [FloatCarrier()]
    exact = (c for c in carriers if _is_exact(c, device))
    return next(exact, ReferenceCarrier())


def _cpu_flags() -> str:
    """Names of the int8 instructions that torch reports, "" where it reports none."""
    names = ("_is_avx512_vnni_supported", "_is_vnni_supported", "_is_amx_tile_supported")
    found = [n for n in names if getattr(torch.cpu, n, bool)()]
    return "vnni" if found else ""


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
        self.register_buffer("scale", torch.ones(c_out))
        self.register_buffer("step", torch.ones(c_in))
        self.register_buffer("float_bias", torch.zeros(c_out))

    def prepare(self, carrier: Carrier | None, reach: Tensor | None = None) -> None:
        """Checks the proof and makes ready to run. reach: (C,) int64, default 1.

        Without a carrier, only for sums that are made elsewhere.
        """
        reach = torch.ones_like(self.zero, dtype=torch.int64) if reach is None else reach
        self.prove(reach)
        self._zero, self._bias = self.zero.float(), self.bias.float()
        if carrier is not None:
            self._carrier, self._reach = carrier, reach
            self._weight = carrier.prepare(self.weight, reach)

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

    def sums(self, a: Tensor) -> Tensor:
        return self._carrier.convolve(a, self._weight, self._zero, self._reach).add_(self._bias)

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

    def prepare(self, carrier: Carrier | None, reach: Tensor | None = None) -> None:
        super().prepare(carrier, reach)
        self._factor = torch.pow(2.0, -self.shift.float())
        self._entries = self.table.flatten()
        starts = torch.arange(len(self.table), dtype=torch.int32) * TABLE
        self._starts = starts.to(self.table.device)

    def integers(self, a: Tensor) -> Tensor:
        return self.look_up(self.sums(a))

    def look_up(self, sums: Tensor) -> Tensor:
        """Sums (B, H, W, O), which are overwritten -> int8."""
        # Of a number that is not negative, int() is the floor.
        places = sums.mul_(self._factor).clamp_(0, TABLE - 1).int().add_(self._starts)
        values = self._entries.index_select(0, places.flatten()).view(places.shape)
        return values if self.shuffle == 1 else _pixel_shuffle(values, self.shuffle)


class LinearConv(IntegerConv):
    """The sums times `multiplier`, rounded half up and clamped to low…high.

    A multiplier is float64 with at most 16 significant bits: the product with a sum is exact.
    """

    multiplier: Tensor

    def __init__(self, c_in: int, c_out: int, low: int, high: int) -> None:
        super().__init__(c_in, c_out)
        self.low, self.high = low, high
        self.register_buffer("multiplier", torch.zeros(c_out, dtype=torch.float64))

    def integers(self, a: Tensor) -> Tensor:
        rounded = self.sums(a).double().mul_(self.multiplier).add_(0.5).floor_()
        return rounded.clamp_(self.low, self.high).float()


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

    def __init__(self, keys: list[str], carrier: Carrier, weight: Tensor, reach: Tensor) -> None:
        self.keys, self.carrier, self.reach = keys, carrier, reach
        self.width = len(weight) // len(keys)
        self.weight, self.zero = carrier.prepare(weight, reach), torch.zeros_like(reach).float()

    def add_to(self, sums: dict[str, Tensor], a: Tensor) -> None:
        """Adds what `a` contributes to the sums of each layer."""
        found = _by_strips(self._convolve, a)
        for key, part in zip(self.keys, found.split(self.width, 3), strict=True):
            sums[key] = sums[key].add_(part) if key in sums else part

    def _convolve(self, a: Tensor) -> Tensor:
        return self.carrier.convolve(a, self.weight, self.zero, self.reach)


class IntegerEntropy(nn.Module):
    """h_s, the context transforms, LRP and scale -> CDF index, of integers only.

    `means_reach`, `scales_reach` and `y_reach` (M,) say how many times int8 each channel of the
    context may reach; `y_shift` (M,) by how many bits ŷ, in 1/128, is shifted right for it.
    """

    means_reach: Tensor
    scales_reach: Tensor
    y_reach: Tensor
    y_shift: Tensor
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
        self.register_buffer("y_shift", torch.zeros(M, dtype=torch.uint8))
        self.register_buffer("thresholds", torch.zeros(levels - 1, dtype=torch.int32))

    def prepare(self, carrier: Carrier | None = None) -> IntegerEntropy:
        """Proves every layer exact and makes it ready on the device that its buffers are on.

        Raises WeightsError where a layer is not exact.
        """
        carrier = carrier or best_carrier(self.thresholds.device)
        means, scales, y = (
            t.to(torch.int64) for t in (self.means_reach, self.scales_reach, self.y_reach)
        )
        for t in (means, scales, y):
            if not 1 <= int(t.min()) <= int(t.max()) <= MAX_REACH:
                raise WeightsError(f"damaged integer weights: a reach is outside 1..{MAX_REACH}")
        for net in (self.h_mean_s, self.h_scale_s):
            for layer in net:
                layer.prepare(carrier)
        slices = y.split(self.width)
        for i in range(self.slices):
            seen = slices[: min(i, self.support)]
            for name, reach in (
                ("cc_mean_transforms", (means, *seen)),
                ("cc_scale_transforms", (scales, *seen)),
                ("lrp_transforms", (means, *seen, slices[i])),
            ):
                first, *others = self.get_submodule(name)[i]
                first.prepare(None, torch.cat(reach))
                for layer in others:
                    layer.prepare(carrier)
        self._parts = self._cut_first_layers(carrier, means, scales, slices)
        self._reaches = [t.float() for t in (means, scales, y)]
        self._y_factor = torch.pow(2.0, -self.y_shift.float())
        scales = torch.arange(MAX_SCALE + 1, dtype=torch.int32, device=self.thresholds.device)
        self._levels = torch.bucketize(scales, self.thresholds, out_int32=True)
        return self

    def _cut_first_layers(
        self, carrier: Carrier, means: Tensor, scales: Tensor, slices: Sequence[Tensor]
    ) -> dict[str, _Part]:
        """The transforms' first layers by what they see, not by whom they belong to.

        Each tensor of the context is then convolved once, for all that will ever look at it,
        and only the sums are kept.
        """
        M, c = len(means), self.width
        every = range(self.slices)
        later = [[i for i in every if i > j and j < self.support] for j in every]
        own = [M + c * min(i, self.support) for i in every]
        seen_by: dict[str, tuple[Tensor, list[tuple[str, int, int]]]] = {
            "means": (means, [(n, i, 0) for n in ("cc_mean", "lrp") for i in every]),
            "scales": (scales, [("cc_scale", i, 0) for i in every]),
        }
        for j in every:
            names = ("cc_mean", "cc_scale", "lrp")
            users = [(n, i, M + c * j) for n in names for i in later[j]]
            seen_by[f"slice{j}"] = (slices[j], users)
            seen_by[f"own{j}"] = (slices[j], [("lrp", j, own[j])])
        parts = {}
        for what, (reach, users) in seen_by.items():
            if users:
                weights = [
                    self.get_submodule(f"{n}_transforms")[i][0].weight[:, at : at + len(reach)]
                    for n, i, at in users
                ]
                keys = [f"{n}{i}" for n, i, _ in users]
                parts[what] = _Part(keys, carrier, torch.cat(weights), reach)
        return parts

    def decode_slices(self, z: Tensor, code: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
        """ŷ (B, M, 4·h, 4·w), multiples of 1/128, from ẑ's symbols (B, N, h, w).

        `code(slice, mean, index)` gets each latent's mean, a multiple of 1/128, and the row of
        its CDF table (int32), both (B, c, 4·h, 4·w), and returns the symbols.
        """
        z = z.permute(0, 2, 3, 1).clamp(-128, 127)
        sums: dict[str, Tensor] = {}

        def see(what: str, a: Tensor) -> None:
            if what in self._parts:
                self._parts[what].add_to(sums, a)

        def rest(name: str, i: int) -> Tensor:
            first, *others = self.get_submodule(f"{name}_transforms")[i]
            a = first.look_up(sums.pop(f"{name}{i}").add_(first._bias))
            for layer in others:
                a = layer(a)
            return a

        see("means", _clamp(self.h_mean_s(z), self._reaches[0]))
        see("scales", _clamp(self.h_scale_s(z), self._reaches[1]))
        decoded: list[Tensor] = []
        for i in range(self.slices):
            mean = rest("cc_mean", i)
            scale = rest("cc_scale", i)
            index = self._levels.index_select(0, scale.int().flatten()).view(scale.shape)
            symbols = code(i, _nchw(mean) / FRACTION, _nchw(index))
            y = symbols.clamp(-MAX_SYMBOL, MAX_SYMBOL).permute(0, 2, 3, 1) * FRACTION + mean
            see(f"own{i}", self._context(i, y))
            y = y + rest("lrp", i)
            see(f"slice{i}", self._context(i, y))
            decoded.append(_nchw(y) / FRACTION)
        return torch.cat(decoded, 1)

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
        rounded = torch.floor(y * self._y_factor[channels] + 0.5)
        return _clamp(rounded, self._reaches[2][channels])


def _of_type(net: nn.Module, kind: type[_M]) -> list[_M]:
    return [m for m in net.modules() if isinstance(m, kind)]


def _clamp(a: Tensor, reach: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(a, -128 * reach), 127 * reach)


def _nchw(a: Tensor) -> Tensor:
    return a.permute(0, 3, 1, 2)
