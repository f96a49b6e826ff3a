"""Backends: ways to compute the exact sums of an integer convolution.

A sum of integers is exact in any order, with any number of threads and in any memory layout, as
long as no partial sum outgrows the number type; `integer_layers.IntegerConv.prove` shows that for
every output channel. So all backends give the same integers, and each machine takes the quickest
that it has (`best_backend`). Feature maps are (B, H, W, C).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stfcodec.models.host import float32_precision

BOUND = 1 << 24
"""float32 holds every integer up to this one, so every partial sum below it is exact."""

MAX_REACH = 8
"""The largest reach of a channel, see `Kernel.reach`."""

CPU = torch.device("cpu")


class Kernel(NamedTuple):
    """A 3×3 convolution of integers with O output and C input channels.

    A complete sum is (Σ weight · a + bias) · factor. The factors are powers of two, so multiplying
    by them changes only the exponent of a sum.
    """

    weight: Tensor
    """(O, C, 3, 3) int8."""
    factor: Tensor
    """(O,) float32, powers of two."""
    reach: Tensor
    """(C,) int64, 1…MAX_REACH: activations of a channel with reach r are −128·r…127·r."""
    zero: Tensor
    """(C,) float32: the zero points, with which the map is padded."""
    bias: Tensor
    """(O,) float32 integers."""

    def columns(self, inputs: slice) -> Kernel:
        """The kernel of some of the input channels."""
        return self._replace(
            weight=self.weight[:, inputs], reach=self.reach[inputs], zero=self.zero[inputs]
        )

    @staticmethod
    def stack(kernels: Sequence[Kernel]) -> Kernel:
        """One kernel with all output channels of kernels that have the same input."""
        return kernels[0]._replace(
            weight=torch.cat([k.weight for k in kernels]),
            factor=torch.cat([k.factor for k in kernels]),
            bias=torch.cat([k.bias for k in kernels]),
        )


SumFunction = Callable[[Tensor], Tensor]
"""Makes sums (B, H, W, O), of activations (B, H, W, C) or of partial sums (B, H, W, O)."""


class Backend(ABC):
    """One way to compute sums."""

    activation_dtype: ClassVar[torch.dtype]
    """The type of activations that spares the backend a conversion; others are converted."""

    @abstractmethod
    def make_partial_convolution(self, kernel: Kernel) -> SumFunction:
        """A function from activations to partial sums: without bias, in a number type of the
        backend's own. Partial sums over several groups of input channels may be added up."""

    @abstractmethod
    def make_finish(self, kernel: Kernel) -> SumFunction:
        """A function from added-up partial sums, which it may overwrite, to complete sums in
        float32."""

    def make_convolution(self, kernel: Kernel) -> SumFunction:
        """A function from activations to complete sums in float32."""
        convolve, finish = self.make_partial_convolution(kernel), self.make_finish(kernel)
        return lambda a: finish(convolve(a))


class FloatBackend(Backend):
    """float32 convolutions: exact below BOUND on every CPU.

    Not for CUDA, where TF32, Winograd's algorithm or a Fourier transform may replace the sums.
    """

    activation_dtype = torch.float32

    def make_partial_convolution(self, kernel: Kernel) -> SumFunction:
        return self._make(kernel, torch.zeros_like(kernel.bias))

    def make_finish(self, kernel: Kernel) -> SumFunction:
        bias = kernel.bias * kernel.factor
        return lambda sums: sums.add_(bias)

    def make_convolution(self, kernel: Kernel) -> SumFunction:
        return self._make(kernel, kernel.bias * kernel.factor)

    @staticmethod
    def _make(kernel: Kernel, bias: Tensor) -> SumFunction:
        weight = kernel.weight * kernel.factor[:, None, None, None]
        # conv2d pads with zeros itself; other zero points need a padded copy of the map.
        copies = bool(kernel.zero.any())
        convolution = _PackedConvolution(weight, bias, padding=0 if copies else 1)

        def convolve(a: Tensor) -> Tensor:
            a = _pad(a, kernel.zero, torch.float32) if copies else a.float()
            sums = convolution(a.permute(0, 3, 1, 2))
            return sums.permute(0, 2, 3, 1).contiguous()

        return convolve


class _PackedConvolution:
    """F.conv2d in float32, with weights that are brought into oneDNN's order only once, if the
    version of torch offers that."""

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
        with torch.autocast("cpu", enabled=False):  # the calling program may have enabled it
            return F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)


class Int8Backend(Backend):
    """int8 matrix products of unfolded maps with int32 sums: quick with VNNI instructions.

    A channel of reach r is split into r summands within int8, each with the channel's weights.
    `aligned`: CUDA's product demands at least 17 matrix rows, row lengths in multiples of 8, which
    are filled with zeros, and output channels in multiples of 8, which all models have.
    """

    activation_dtype = torch.int8

    def __init__(self, aligned: bool = False) -> None:
        self.aligned = aligned

    def make_partial_convolution(self, kernel: Kernel) -> SumFunction:
        weight, reach = kernel.weight, kernel.reach
        # Summand s has the channels of a reach above s; its positions count within summand s − 1.
        channels = [torch.nonzero(reach > s).flatten() for s in range(int(reach.max()))]
        positions = [torch.searchsorted(a, b) for a, b in pairwise(channels)]
        summands = torch.cat([weight[:, c] for c in channels], 1)
        matrix = summands.permute(0, 2, 3, 1).reshape(len(weight), -1)
        if self.aligned:
            matrix = F.pad(matrix, (0, -matrix.shape[1] % 8))
        matrix = matrix.contiguous().t()
        zero = F.pad(kernel.zero, (0, summands.shape[1] - len(kernel.zero)))

        def convolve(a: Tensor) -> Tensor:
            a = _split(a, positions) if positions else a
            B, H, W, _ = a.shape
            sums = torch._int_mm(self._unfold(_pad(a, zero, torch.int8)), matrix)
            return sums[: B * H * W].view(B, H, W, -1)

        return convolve

    def make_finish(self, kernel: Kernel) -> SumFunction:
        factor, bias = kernel.factor, kernel.bias * kernel.factor
        return lambda sums: torch.addcmul(bias, sums.float(), factor)

    def _unfold(self, padded: Tensor) -> Tensor:
        """The 3×3 neighbourhood of each position: (B, H + 2, W + 2, C) -> (B·H·W, 9·C)."""
        B, H, W, C = padded.shape[0], padded.shape[1] - 2, padded.shape[2] - 2, padded.shape[3]
        s = padded.stride()
        # Horizontal neighbours are adjacent in memory: three of them are one run of 3·C.
        windows = padded.as_strided((B, H, W, 3, 3 * C), (s[0], s[1], s[2], s[1], 1))
        matrix = windows.reshape(B * H * W, 9 * C)
        if self.aligned:
            matrix = F.pad(matrix, (0, -matrix.shape[1] % 8, 0, max(0, 17 - matrix.shape[0])))
        # On a map one position wide, reshape gives rows that overlap; _int_mm gets those wrong.
        return matrix.contiguous()


def _split(a: Tensor, positions: list[Tensor]) -> Tensor:
    """a (B, H, W, C) as summands within int8, along the channels.

    The first summand is all channels, clamped. Each further one is what remains of those channels
    of the summand before it that `positions` names.
    """
    summands = [a.clamp(-128, 127)]
    for p in positions:
        a = (a - summands[-1]).index_select(3, p)
        summands.append(a.clamp(-128, 127))
    return torch.cat(summands, 3)


def _pad(a: Tensor, zero: Tensor, dtype: torch.dtype) -> Tensor:
    """a (B, H, W, C) with a border of zero points (C,), one position wide."""
    B, H, W, C = a.shape
    padded = zero.to(dtype).expand(B, H + 2, W + 2, C).contiguous()
    padded[:, 1:-1, 1:-1] = a
    return padded


class ReferenceBackend(Backend):
    """float64 matrix products of unfolded maps: slow, and right wherever there is IEEE 754.

    float64 holds integers to 2⁵³; TF32 and autocast do not affect it.
    """

    activation_dtype = torch.int8

    def make_partial_convolution(self, kernel: Kernel) -> SumFunction:
        weight = kernel.weight.flatten(1).double()

        def convolve(a: Tensor) -> Tensor:
            B, H, W, _ = a.shape
            columns = F.unfold(_pad(a, kernel.zero, torch.float64).permute(0, 3, 1, 2), 3)
            return (weight @ columns).transpose(1, 2).reshape(B, H, W, -1)

        return convolve

    def make_finish(self, kernel: Kernel) -> SumFunction:
        return lambda sums: ((sums + kernel.bias) * kernel.factor).float()


def _is_exact(backend: Backend, device: torch.device) -> bool:
    """Whether the backend's sums of extreme weights and activations are right on the device.

    The test finds fast convolutions that are no plain sums, int8 instructions that saturate, and
    inputs that are rounded. Its sums stay below BOUND.
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
        sums = backend.make_convolution(kernel)(a)
    except (RuntimeError, AttributeError):
        return False
    return torch.equal(sums, ReferenceBackend().make_convolution(kernel)(a))


def best_backend(device: torch.device = CPU) -> Backend:
    """The quickest backend that is exact on the device under torch's present precision settings."""
    return _best_backend(device, float32_precision())


@cache
def _best_backend(device: torch.device, _: tuple[str, ...]) -> Backend:
    backends: list[Backend] = [Int8Backend(aligned=True)]
    if device.type == "cpu":
        backends = [Int8Backend(), FloatBackend()] if _cpu_has_int8() else [FloatBackend()]
    exact = (backend for backend in backends if _is_exact(backend, device))
    return next(exact, ReferenceBackend())


def _cpu_has_int8() -> bool:
    """Whether torch reports CPU instructions for int8 products."""
    names = ("_is_avx512_vnni_supported", "_is_vnni_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in names)
