"""The integer form of the published models' entropy networks: h_s, context transforms and LRP.

`IntegerEntropy` replaces the float networks of `ChannelwiseModel` in coding. It computes means, the
CDF tables of the symbols, and ŷ, from the symbols of z and y. Its layers are those of
`integer_layers.py`; feature maps are (B, H, W, C), latents (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from stfcodec.errors import WeightsError
from stfcodec.models.integer_backends import MAX_REACH, Backend, Kernel, best_backend
from stfcodec.models.integer_layers import (
    STRIP,
    SYMBOL_BOUND,
    IntegerConv,
    LinearConv,
    TableConv,
    by_strips,
)
from stfcodec.models.registry import EntropyWidths

MEAN_DENOMINATOR = 128
"""Means and ŷ are multiples of 1/128, so that LRP's range ±½ just fits the int8 table entries."""

SCALE_DENOMINATOR = 1024
"""Scales are multiples of 1/1024; the two smallest scale levels are 15 of them apart."""

MAX_MEAN = 1 << 22
MAX_SCALE = 1 << 18
"""Clamps of means and scales in their units. A hostile stream may hold any symbol; with these and
the bound of symbols ŷ stays below BOUND all the same."""

LARGE_MAP = 2 * STRIP
"""Positions of ŷ above which one transform at a time gets the sums of its first layer: all sums
together would take gigabytes."""

REPLACED_NETWORKS = (
    "h_mean_s",
    "h_scale_s",
    "cc_mean_transforms",
    "cc_scale_transforms",
    "lrp_transforms",
)
"""The float networks that `IntegerEntropy` replaces; both models use these names."""


class IntegerEntropy(nn.Module):
    """h_s, context transforms, LRP and the choice of CDF tables, in integers only.

    `means_reach`, `scales_reach` and `y_reach` (M,) are the reach of h_s's outputs and of ŷ where
    the context transforms see them. `y_multiplier` (M,) turns ŷ, in 1/128, into quantisation steps
    of these activations. `thresholds` (levels − 1,) separate the scale levels, in 1/1024.
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
        support_widths = [M + c * min(i, widths.support) for i in range(S)]
        hidden = widths.context
        self.cc_mean_transforms = nn.ModuleList(
            _Transform((n, *hidden), LinearConv(hidden[-1], c, -MAX_MEAN, MAX_MEAN))
            for n in support_widths
        )
        self.cc_scale_transforms = nn.ModuleList(
            _Transform((n, *hidden), LinearConv(hidden[-1], c, 0, MAX_SCALE))
            for n in support_widths
        )
        self.lrp_transforms = nn.ModuleList(
            _Transform((n + c, *hidden), TableConv(hidden[-1], c)) for n in support_widths
        )
        for name in ("means_reach", "scales_reach", "y_reach"):
            self.register_buffer(name, torch.ones(M, dtype=torch.uint8))
        self.register_buffer("y_multiplier", torch.ones(M, dtype=torch.float32))
        self.register_buffer("thresholds", torch.zeros(levels - 1, dtype=torch.int32))

    def prepare(self, backend: Backend | None = None) -> IntegerEntropy:
        """Prove every layer exact and make it ready on the device of the buffers.

        backend: by default the quickest that is exact there. Raises WeightsError where a layer's
        sums could be inexact or a buffer is damaged.
        """
        backend = backend or best_backend(self.thresholds.device)
        for reach in (self.means_reach, self.scales_reach, self.y_reach):
            if not 1 <= int(reach.min()) <= int(reach.max()) <= MAX_REACH:
                raise WeightsError(f"damaged integer weights: a reach is outside 1..{MAX_REACH}")
        for layer in (*_layers(self.h_mean_s), *_layers(self.h_scale_s)):
            layer.prepare(backend)
        self._context = self._prepare_transforms(backend)
        if (self.thresholds.diff() < 0).any():
            raise WeightsError("damaged integer weights: the thresholds of scales do not rise")
        scales = torch.arange(MAX_SCALE + 1, dtype=torch.int32, device=self.thresholds.device)
        self._level_of_scale = torch.bucketize(scales, self.thresholds).to(torch.uint8)
        return self

    def _prepare_transforms(self, backend: Backend) -> _ContextConvolutions:
        """Prepare the transforms, and the convolutions that make their first layers' sums."""
        means_reach, scales_reach, y_reach = (
            t.to(torch.int64) for t in (self.means_reach, self.scales_reach, self.y_reach)
        )
        slices_reach = y_reach.split(self.width)
        mean, scale, lrp = self._transforms()
        kernels: dict[_Transform, Kernel] = {}
        for i in range(self.slices):
            support = slices_reach[: min(i, self.support)]
            for transform, reach in (
                (mean[i], (means_reach, *support)),
                (scale[i], (scales_reach, *support)),
                (lrp[i], (means_reach, *support, slices_reach[i])),
            ):
                kernels[transform] = transform.prepare(backend, torch.cat(reach))

        def shared(users: Iterable[_Transform], start: int, width: int) -> _SharedConvolution:
            """Of the input channels from `start` on, for these transforms."""
            channels = slice(start, start + width)
            return _SharedConvolution({t: kernels[t].columns(channels) for t in users}, backend)

        M, c = len(y_reach), self.width
        return _ContextConvolutions(
            means=shared((*mean, *lrp), 0, M),
            scales=shared(scale, 0, M),
            before_lrp=[
                shared([lrp[i]], M + c * min(i, self.support), c) for i in range(self.slices)
            ],
            after_lrp=[
                shared((*mean[i + 1 :], *scale[i + 1 :], *lrp[i + 1 :]), M + c * i, c)
                for i in range(min(self.support, self.slices - 1))
            ],
        )

    def _transforms(self) -> tuple[list[_Transform], list[_Transform], list[_Transform]]:
        """The mean, scale and LRP transforms, one of each per slice."""
        mean, scale, lrp = (
            [t for t in transforms if isinstance(t, _Transform)]
            for transforms in (
                self.cc_mean_transforms,
                self.cc_scale_transforms,
                self.lrp_transforms,
            )
        )
        return mean, scale, lrp

    def decode_slices(self, z: Tensor, code: Callable[[int, Tensor, Tensor], Tensor]) -> Tensor:
        """ŷ (B, M, 4·h, 4·w), multiples of 1/128, from the symbols of z (B, N, h, w).

        `code(slice, mean, level)` gets the mean of each latent, a multiple of 1/128, and the index
        of its CDF table (uint8), both (B, c, 4·h, 4·w), and returns the symbols.
        """
        z = z.permute(0, 2, 3, 1).clamp(-128, 127)
        B, H, W = z.shape[0], 4 * z.shape[1], 4 * z.shape[2]
        context = self._context
        mean_transforms, scale_transforms, lrp_transforms = self._transforms()
        sums = _FirstLayerSums(deferred=B * H * W > LARGE_MAP)
        sums.add(context.means, _clamp(self.h_mean_s(z), self.means_reach))
        sums.add(context.scales, _clamp(self.h_scale_s(z), self.scales_reach))
        y_hat = z.new_empty(B, H, W, self.slices * self.width)
        for i, y_hat_slice in enumerate(y_hat.split(self.width, 3)):
            mean = mean_transforms[i].finish(sums.take(mean_transforms[i]))
            scale = scale_transforms[i].finish(sums.take(scale_transforms[i]))
            level = self._level_of_scale.index_select(0, scale.int().flatten()).view(scale.shape)
            symbols = code(i, _nchw(mean) / MEAN_DENOMINATOR, _nchw(level))
            symbols = symbols.clamp(-SYMBOL_BOUND, SYMBOL_BOUND).permute(0, 2, 3, 1)
            y = symbols * MEAN_DENOMINATOR + mean
            sums.add(context.before_lrp[i], self._as_activations(i, y))
            y = y + lrp_transforms[i].finish(sums.take(lrp_transforms[i]))
            if i < len(context.after_lrp):
                sums.add(context.after_lrp[i], self._as_activations(i, y))
            torch.div(y, MEAN_DENOMINATOR, out=y_hat_slice)
        return _nchw(y_hat)

    def _as_activations(self, i: int, y: Tensor) -> Tensor:
        """Slice i of ŷ, in 1/128, as the activations that the context transforms see."""
        channels = slice(i * self.width, (i + 1) * self.width)
        return _clamp((y * self.y_multiplier[channels]).round_(), self.y_reach[channels])

    def dequantise_into(self, model: nn.Module) -> None:
        """Give the float networks of a model the weights that this form stands for."""
        for name in REPLACED_NETWORKS:
            layers = _layers(self.get_submodule(name))
            convs = [m for m in model.get_submodule(name).modules() if isinstance(m, nn.Conv2d)]
            with torch.no_grad():
                for layer, conv in zip(layers, convs, strict=True):
                    weight, bias = layer.dequantise()
                    assert conv.bias is not None
                    conv.weight.copy_(weight)
                    conv.bias.copy_(bias)


class _Transform(nn.Sequential):
    """A mean, scale or LRP transform, which runs from the complete sums of its first layer."""

    def __init__(self, widths: tuple[int, ...], last: IntegerConv) -> None:
        super().__init__(*(TableConv(a, b) for a, b in pairwise(widths)), last)

    def prepare(self, backend: Backend, reach: Tensor) -> Kernel:
        """Make `finish` ready; return the kernel of the first layer. reach: (C,), of its input.

        Raises WeightsError where a layer's sums could be inexact.
        """
        first, *others = _layers(self)
        kernel = first.prepare_finish(backend, reach)
        for layer in others:
            layer.prepare(backend)
        return kernel

    def finish(self, sums: Tensor) -> Tensor:
        """The output (B, H, W, c), from the first layer's added-up partial sums (B, H, W, O)."""
        first, *others = _layers(self)
        a = first.finish(sums)
        for layer in others:
            a = layer(a)
        return a


# --------------------------------------------------------- sums of the transforms' first layers


class _SharedConvolution:
    """The convolution of one tensor of the context for the first layers of its users.

    The users are the transforms that the tensor is an input of.
    """

    def __init__(self, kernels: dict[_Transform, Kernel], backend: Backend) -> None:
        """kernels: of each user's first layer, the columns for this tensor's channels."""
        self._kernels, self._backend = kernels, backend
        self._convolve_all = backend.make_partial_convolution(Kernel.stack(list(kernels.values())))

    def serves(self, transform: _Transform) -> bool:
        """Whether the transform is a user."""
        return transform in self._kernels

    def for_all(self, a: Tensor) -> Iterable[tuple[_Transform, Tensor]]:
        """Each user's partial sums (B, H, W, O) of the tensor (B, H, W, C)."""
        widths = [len(kernel.weight) for kernel in self._kernels.values()]
        sums = by_strips(self._convolve_all, a).split(widths, 3)
        return zip(self._kernels, sums, strict=True)

    def for_one(self, transform: _Transform, a: Tensor) -> Tensor:
        """One user's partial sums (B, H, W, O) of the tensor (B, H, W, C)."""
        return by_strips(self._backend.make_partial_convolution(self._kernels[transform]), a)


@dataclass
class _ContextConvolutions:
    """The first layers of all transforms, split by the tensors of the context."""

    means: _SharedConvolution
    """h_mean_s's output, an input of every mean transform and LRP transform."""
    scales: _SharedConvolution
    """h_scale_s's output, an input of every scale transform."""
    before_lrp: list[_SharedConvolution]
    """Slice i of ŷ without LRP, an input of LRP transform i alone."""
    after_lrp: list[_SharedConvolution]
    """Slice i of ŷ, for i < support, an input of all transforms of later slices."""


class _FirstLayerSums:
    """The sums of the transforms' first layers, over the tensors of the context known so far.

    A tensor is convolved at once for all its users. `deferred`: the tensors are kept, and convolved
    for one transform when it runs. That is slower, with one transform's sums in memory at a time.
    """

    def __init__(self, deferred: bool) -> None:
        self._deferred = deferred
        self._sums: dict[_Transform, Tensor] = {}
        self._tensors: list[tuple[_SharedConvolution, Tensor]] = []

    def add(self, convolution: _SharedConvolution, a: Tensor) -> None:
        """Add the partial sums of one tensor (B, H, W, C) of the context."""
        if self._deferred:
            self._tensors.append((convolution, a.to(torch.int16)))  # half the memory of float32
            return
        for transform, sums in convolution.for_all(a):
            self._add(transform, sums)

    def take(self, transform: _Transform) -> Tensor:
        """Remove and return the sums (B, H, W, O) of a transform's first layer, without bias."""
        for convolution, a in self._tensors:
            if convolution.serves(transform):
                self._add(transform, convolution.for_one(transform, a))
        return self._sums.pop(transform)

    def _add(self, transform: _Transform, sums: Tensor) -> None:
        known = self._sums.get(transform)
        self._sums[transform] = sums if known is None else known.add_(sums)


# -------------------------------------------------------------------------------------- helpers


def _hyper_synthesis(w: tuple[int, ...]) -> nn.Sequential:
    limit = 128 * MAX_REACH
    return nn.Sequential(
        TableConv(w[0], w[1]),
        TableConv(w[1], 4 * w[2], shuffle=2),
        TableConv(w[2], w[3]),
        TableConv(w[3], 4 * w[4], shuffle=2),
        LinearConv(w[4], w[5], -limit, limit),
    )


def _layers(net: nn.Module) -> list[IntegerConv]:
    return [m for m in net.modules() if isinstance(m, IntegerConv)]


def _clamp(a: Tensor, reach: Tensor) -> Tensor:
    """a (B, H, W, C) within −128·r…127·r, r of each channel from reach (C,)."""
    r = reach.float()
    return torch.minimum(torch.maximum(a, -128 * r), 127 * r)


def _nchw(a: Tensor) -> Tensor:
    return a.permute(0, 3, 1, 2)
