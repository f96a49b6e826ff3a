"""Ways to convolve integers exactly, of which each machine takes the quickest that it has.

A sum is exact in any order, with any number of threads and in any memory layout, as long as no
partial sum outgrows what carries it; `integer.IntegerConv.prove` shows that for every output
channel. All backends give the same integers. Feature maps are (B, H, W, C) in this file.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stfcodec.models.host import precision

BOUND = 1 << 24
"""float32 holds every integer up to here, and so every partial sum below it."""

MAX_REACH = 8

CPU = torch.device("cpu")


class Kernel(NamedTuple):
    """What a backend convolves with; O output and C input channels.

    Sums come out times `factor`, powers of two, which changes no digit of them.
    """

    weight: Tensor
    """(O, C, 3, 3) int8."""
    factor: Tensor
    """(O,) float32."""
    reach: Tensor
    """(C,) int64: activations are −128·r…127·r."""
    zero: Tensor
    """(C,) float32: what pads the map."""
    bias: Tensor
    """(O,) float32 integers, added to the sums before the factor."""

    def columns(self, inputs: slice) -> Kernel:
        """The part that looks at some of the input channels."""
        return self._replace(
            weight=self.weight[:, inputs], reach=self.reach[inputs], zero=self.zero[inputs]
        )

    @property
    def offset(self) -> Tensor:
        """(O,): the bias as it is in what comes out."""
        return self.bias * self.factor


Convolution = Callable[[Tensor], Tensor]
"""a (B, H, W, C), int8 or carried in float32 -> sums (B, H, W, O)."""


class Backend(ABC):
    """One way to make sums."""

    entries: ClassVar[torch.dtype]
    """What it wants activations in."""

    @abstractmethod
    def partial(self, kernel: Kernel) -> Convolution:
        """Sums without bias, in a type of the backend's own: those of several parts of a kernel
        may be added up."""

    @abstractmethod
    def finish(self, kernel: Kernel) -> Callable[[Tensor], Tensor]:
        """From what `partial` gave, added up, to (sums + bias) · factor in float32. What comes in
        may be overwritten."""

    def prepare(self, kernel: Kernel) -> Convolution:
        """Both in one: a -> (sums + bias) · factor in float32."""
        partial, finish = self.partial(kernel), self.finish(kernel)
        return lambda a: finish(partial(a))


class FloatBackend(Backend):
    """Integers in float32 convolutions: exact below BOUND on every CPU.

    Not for CUDA, where TF32, Winograd's algorithm or a Fourier transform may stand for a
    convolution.
    """

    entries = torch.float32

    def partial(self, kernel: Kernel) -> Convolution:
        return self._convolution(kernel, torch.zeros_like(kernel.bias))

    def finish(self, kernel: Kernel) -> Callable[[Tensor], Tensor]:
        offset = kernel.offset
        return lambda sums: sums.add_(offset)

    def prepare(self, kernel: Kernel) -> Convolution:
        return self._convolution(kernel, kernel.offset)

    @staticmethod
    def _convolution(kernel: Kernel, offset: Tensor) -> Convolution:
        framed = bool(kernel.zero.any())  # a frame of zeros the convolution makes, without a copy
        weight = kernel.weight * kernel.factor[:, None, None, None]
        convolution = _Convolution(weight, offset, padding=0 if framed else 1)

        def convolve(a: Tensor) -> Tensor:
            a = _pad(a, kernel.zero, torch.float32) if framed else a.float()
            sums = convolution(a.permute(0, 3, 1, 2))
            return sums.permute(0, 2, 3, 1).contiguous()

        return convolve


class _Convolution:
    """F.conv2d in float32 whose weights are brought into oneDNN's order once, not at each call,
    where torch lets us."""

    def __init__(self, weight: Tensor, bias: Tensor, padding: int) -> None:
        self.weight, self.bias = weight.contiguous(memory_format=torch.channels_last), bias
        self.layout = [padding] * 2, [1, 1], [1, 1], 1
        self.packed: Tensor | None = None
        if torch.backends.mkldnn.is_available():
            with contextlib.suppress(AttributeError, RuntimeError):
                reorder = torch.ops.mkldnn._reorder_convolution_weight
                self.packed = reorder(self.weight, *self.layout)

    def __call__(self, x: Tensor) -> Tensor:
        if self.packed is not None and torch._C._get_mkldnn_enabled():
            run = torch.ops.mkldnn._convolution_pointwise
            return run(x, self.packed, self.bias, *self.layout, "none", [], "")
        padding, stride, dilation, groups = self.layout
        with torch.autocast("cpu", enabled=False):  # it may be on in the program around us
            return F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)


class Int8Backend(Backend):
    """int8 matrix products with int32 sums on unfolded feature maps; quick with VNNI.

    A channel that reaches r times beyond int8 is cut into r summands that do not, all with the
    channel's weights. `aligned`: zeros fill rows to multiples of 8 and their number to 17 or more,
    as CUDA's product demands; it takes columns by the 8 too, and every model's widths are such.
    """

    entries = torch.int8

    def __init__(self, aligned: bool = False) -> None:
        self.aligned = aligned

    def partial(self, kernel: Kernel) -> Convolution:
        weight, reach = kernel.weight, kernel.reach
        # Channels that reach more than r times as far; each list's places in the one before.
        lists = [torch.nonzero(reach > r).flatten() for r in range(int(reach.max()))]
        places = [torch.searchsorted(a, b) for a, b in pairwise(lists)]
        summands = torch.cat([weight[:, channels] for channels in lists], 1)
        columns = summands.permute(0, 2, 3, 1).reshape(len(weight), -1)
        if self.aligned:
            columns = F.pad(columns, (0, -columns.shape[1] % 8))
        columns = columns.contiguous().t()
        zero = F.pad(kernel.zero, (0, summands.shape[1] - len(kernel.zero)))

        def convolve(a: Tensor) -> Tensor:
            a = _cut(a, places) if places else a
            B, H, W, _ = a.shape
            sums = torch._int_mm(self._rows(_pad(a, zero, torch.int8)), columns)
            return sums[: B * H * W].view(B, H, W, -1)

        return convolve

    def finish(self, kernel: Kernel) -> Callable[[Tensor], Tensor]:
        factor, offset = kernel.factor, kernel.offset
        return lambda sums: torch.addcmul(offset, sums.float(), factor)

    def _rows(self, padded: Tensor) -> Tensor:
        """Each position's neighbourhood, side by side: (B, H + 2, W + 2, C) -> (B·H·W, 9·C)."""
        B, H, W, C = padded.shape[0], padded.shape[1] - 2, padded.shape[2] - 2, padded.shape[3]
        s = padded.stride()
        # Three neighbours in a row lie side by side in memory.
        windows = padded.as_strided((B, H, W, 3, 3 * C), (s[0], s[1], s[2], s[1], 1))
        rows = windows.reshape(B * H * W, 9 * C)
        if self.aligned:
            rows = F.pad(rows, (0, -rows.shape[1] % 8, 0, max(0, 17 - rows.shape[0])))
        # On a map one position wide the rows would overlap in memory: the product gets them wrong.
        return rows.contiguous()


def _cut(a: Tensor, places: list[Tensor]) -> Tensor:
    """a as summands within int8: all channels, then, as often as there are `places`, what is left
    of those at these places among the last."""
    summands = [a.clamp(-128, 127)]
    for further in places:
        a = (a - summands[-1]).index_select(3, further)
        summands.append(a.clamp(-128, 127))
    return torch.cat(summands, 3)


def _pad(a: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
    """A frame of zero points, one pixel wide, around a (B, H, W, C)."""
    B, H, W, C = a.shape
    padded = zero.to(dtype).expand(B, H + 2, W + 2, C).contiguous()
    padded[:, 1:-1, 1:-1] = a
    return padded


class ReferenceBackend(Backend):
    """float64 matrix products, exact to 2⁵³ in any order: slow, and right wherever there is
    IEEE 754. TF32 and autocast leave float64 alone."""

    entries = torch.int8

    def partial(self, kernel: Kernel) -> Convolution:
        weight = kernel.weight.flatten(1).double()

        def convolve(a: Tensor) -> Tensor:
            B, H, W, _ = a.shape
            columns = F.unfold(_pad(a, kernel.zero, torch.float64).permute(0, 3, 1, 2), 3)
            return (weight @ columns).transpose(1, 2).reshape(B, H, W, -1)

        return convolve

    def finish(self, kernel: Kernel) -> Callable[[Tensor], Tensor]:
        return lambda sums: ((sums + kernel.bias) * kernel.factor).float()


def _is_exact(backend: Backend, device: torch.device) -> bool:
    """Whether the backend passes a test there with the extremes of weights and activations.

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
    channels = torch.arange(32, dtype=torch.float32)
    factor, bias = torch.pow(2.0, -channels % 24), channels - 16
    parts = weight, factor, reach, torch.full((72,), -128.0, dtype=torch.float32), bias
    kernel, a = Kernel(*(t.to(device) for t in parts)), a.float().to(device)
    try:
        sums = backend.prepare(kernel)(a)
    except (RuntimeError, AttributeError):
        return False
    return torch.equal(sums, ReferenceBackend().prepare(kernel)(a))


def best_backend(device: torch.device = CPU) -> Backend:
    """The quickest backend that is exact there, as float32 products are computed now."""
    return _best_backend(device, precision())


@cache
def _best_backend(device: torch.device, _: tuple[str, ...]) -> Backend:
    backends: list[Backend] = [Int8Backend(aligned=True)]
    if device.type == "cpu":
        backends = [Int8Backend(), FloatBackend()] if _cpu_has_int8() else [FloatBackend()]
    exact = (c for c in backends if _is_exact(c, device))
    return next(exact, ReferenceBackend())


def _cpu_has_int8() -> bool:
    """Whether torch reports instructions for int8 products."""
    names = ("_is_avx512_vnni_supported", "_is_vnni_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
