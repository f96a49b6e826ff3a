"""The entropy model of the published networks: hyper-prior and channel-wise autoregressive context.

`wacnn.py` and `stf.py` add the transforms.

Source: Minnen & Singh, "Channel-wise autoregressive entropy models" (ICIP 2020), as used by the
paper (§3.4).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from stfcodec.models.base import CompressionModel
from stfcodec.models.coding import SymbolCoder
from stfcodec.models.integer_entropy import REPLACED_NETWORKS, IntegerEntropy
from stfcodec.models.layers import at_least_float32, conv3x3, subpel3x3
from stfcodec.models.priors import EntropyBottleneck, add_uniform_noise, ste_round
from stfcodec.models.registry import MAX_QUALITY, EntropyWidths

ENTROPY_PARTS = frozenset({
    "h_a", "h_mean_s", "h_scale_s", "cc_mean_transforms", "cc_scale_transforms", "lrp_transforms",
    "entropy_bottleneck", "gaussian_conditional", "integer",
})  # fmt: skip
"""Names of the submodules that are no transforms."""


def _context_transforms(widths: EntropyWidths, own_slices: int = 0) -> nn.ModuleList:
    """One network per slice, of 3×3 convolutions with GELU between them.

    Its input is a hyper-synthesis output (the channels of y) and the slice's support, the decoded
    slices that it is predicted from. Its output has the channels of one slice. own_slices: 1 where
    the slice itself is an input too.
    """
    channels = widths.latents // widths.slices
    transforms = nn.ModuleList()
    for i in range(widths.slices):
        inputs = min(i, widths.support) + own_slices
        layers: list[nn.Module] = []
        for a, b in pairwise((widths.latents + channels * inputs, *widths.context, channels)):
            layers += [conv3x3(a, b), nn.GELU()]
        transforms.append(nn.Sequential(*layers[:-1]))
    return transforms


def _hyper_analysis(w: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(w[0], w[1]), nn.GELU(),
        conv3x3(w[1], w[2]), nn.GELU(),
        conv3x3(w[2], w[3], stride=2), nn.GELU(),
        conv3x3(w[3], w[4]), nn.GELU(),
        conv3x3(w[4], w[5], stride=2),
    )  # fmt: skip


def _hyper_synthesis(w: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(
        conv3x3(w[0], w[1]), nn.GELU(),
        subpel3x3(w[1], w[2]), nn.GELU(),
        conv3x3(w[2], w[3]), nn.GELU(),
        subpel3x3(w[3], w[4]), nn.GELU(),
        conv3x3(w[4], w[5]),
    )  # fmt: skip


class ChannelwiseModel(CompressionModel):
    """The channel-wise entropy model. Subclasses add the transforms."""

    integer_replaces = REPLACED_NETWORKS

    def __init__(self, widths: EntropyWidths) -> None:
        super().__init__()
        self.widths, self.slices, self.support = widths, widths.slices, widths.support
        self.h_a = _hyper_analysis(widths.h_a)
        self.h_mean_s = _hyper_synthesis(widths.h_s)
        self.h_scale_s = _hyper_synthesis(widths.h_s)
        self.cc_mean_transforms = _context_transforms(widths)
        self.cc_scale_transforms = _context_transforms(widths)
        self.lrp_transforms = _context_transforms(widths, own_slices=1)
        self.entropy_bottleneck = EntropyBottleneck(widths.hyper_latents)

    @property
    def transforms(self) -> frozenset[str]:
        return frozenset(n for n, _ in self.named_children() if n not in ENTROPY_PARTS)

    def new_integer(self) -> IntegerEntropy:
        return IntegerEntropy(self.widths)

    def dequantise(self) -> None:
        assert self.integer is not None
        self.integer.dequantise_into(self)

    @abstractmethod
    def precise_layers(self) -> tuple[nn.Module, ...]:
        """The layers that stay in float32, those that read or write pixels among them."""

    def set_precision(self, precision: torch.dtype) -> None:
        self.precision = precision
        kept = {m for layer in self.precise_layers() for m in layer.modules()}
        for name in (*self.transforms, "h_a"):
            for m in self.get_submodule(name).modules():
                if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and m not in kept:
                    m.to(precision)

    @property
    def _is_float(self) -> bool:
        """Whether the transforms' weights are float32. Training in bfloat16 uses autocast."""
        return self.training or self.precision == torch.float32

    def cast_inner(self, x: Tensor) -> Tensor:
        """x in the precision of the inner layers of the transforms."""
        return x if self._is_float else x.to(self.precision)

    def cast_precise(self, x: Tensor) -> Tensor:
        """x in the precision of `precise_layers`."""
        return x if self._is_float else at_least_float32(x)

    def hyper_analysis(self, y: Tensor) -> Tensor:
        # The memory layout decides the algorithm of a convolution, and so its last bits.
        y = y.contiguous(memory_format=torch.channels_last)
        return at_least_float32(self.h_a(self.cast_inner(y)))

    # ------------------------------------------------------------------ the slice loop

    def _decode_slices(
        self,
        z_hat: Tensor,
        quality: Tensor | float,
        code: Callable[[int, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """ŷ (B, M, h, w) before the inverse gain, from ẑ. `code(i, mean, scale)` returns slice i of
        ŷ before the latent residual prediction (LRP).

        The networks work in units of y before the gain, so they need not know the quality.
        """
        means, scales = self.h_mean_s(z_hat), self.h_scale_s(z_hat)
        gain = self.gains(quality, z_hat)[0].expand(-1, self.widths.latents, 1, 1)
        decoded: list[Tensor] = []
        support: list[Tensor] = []
        for i, unit in enumerate(gain.chunk(self.slices, 1)):
            mean_support = torch.cat([means, *support], 1)
            scale_support = torch.cat([scales, *support], 1)
            mean = unit * at_least_float32(self.cc_mean_transforms[i](mean_support))
            scale = unit * at_least_float32(self.cc_scale_transforms[i](scale_support))
            y_hat = code(i, mean, scale)
            lrp = self.lrp_transforms[i](torch.cat([mean_support, y_hat / unit], 1))
            decoded.append(y_hat + 0.5 * torch.tanh(at_least_float32(lrp)))
            if i < self.support:
                support.append(decoded[i] / unit)
        return torch.cat(decoded, 1)

    def gains(self, quality: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
        one = torch.ones(1, 1, 1, 1, device=y.device, dtype=torch.float32)
        return one, one

    def forward(self, x: Tensor, quality: Tensor | float = MAX_QUALITY) -> dict[str, Any]:
        autocast = self.training and self.precision == torch.bfloat16
        with torch.autocast(x.device.type, torch.bfloat16, enabled=autocast):
            return super().forward(x, quality)

    def estimate(
        self,
        y: Tensor,
        quality: Tensor | float,
        rounding: Callable[[Tensor], Tensor] = ste_round,
    ) -> tuple[Tensor, Tensor, Tensor]:
        z = self.hyper_analysis(y)
        medians = self.entropy_bottleneck.medians()
        z_hat = ste_round(z - medians) + medians
        z_tilde = add_uniform_noise(z) if self.training else z_hat
        y_likelihoods: list[Tensor] = []
        passes = self.passes(y)

        def code(i: int, mean: Tensor, scale: Tensor) -> Tensor:
            rounded = rounding(passes[i] - mean)
            residual = add_uniform_noise(passes[i]) - mean if self.training else rounded
            y_likelihoods.append(self.gaussian_conditional.likelihood(residual, scale))
            return rounded + mean

        y_hat = self._decode_slices(z_hat, quality, code)
        with torch.autocast(y.device.type, enabled=False):
            z_likelihoods = self.entropy_bottleneck.likelihood(z_tilde)
        return y_hat, torch.cat(y_likelihoods, 1), z_likelihoods

    # -------------------------------------------------------------------------- coding

    def passes(self, y: Tensor) -> Sequence[Tensor]:
        return y.chunk(self.slices, 1)

    def join_passes(self, passes: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(passes), 1)

    def decode_symbols(self, z_symbols: Tensor, quality: float, code: SymbolCoder) -> Tensor:
        if self.integer is not None:
            return self.integer.decode_slices(z_symbols, code)

        def code_float(i: int, mean: Tensor, scale: Tensor) -> Tensor:
            return code(i, mean, self.gaussian_conditional.levels_of(scale)) + mean

        z_hat = z_symbols + self.entropy_bottleneck.medians()
        return self._decode_slices(z_hat, quality, code_float)
