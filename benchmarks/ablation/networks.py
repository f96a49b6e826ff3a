"""The small codecs of the study: WACNN and a mean-scale hyperprior, with any attention module.

Both have the transforms of WACNN, so that without attention the hyperprior is the plain one of
Minnen et al. ("Joint autoregressive and hierarchical priors", 2018, without its autoregressive
part). Factors per channel and quality let one training give a whole rate-distortion curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ablation.attention import attention_maker
from stfcodec.models.base import CompressionModel, Stage
from stfcodec.models.blocks import at_quality
from stfcodec.models.coding import SymbolCoder
from stfcodec.models.layers import at_least_float32, conv3x3, conv5x5_down, deconv5x5_up
from stfcodec.models.priors import EntropyBottleneck, add_uniform_noise, ste_round
from stfcodec.models.registry import LAMBDAS, MAX_QUALITY, EntropyWidths, ModelInfo, WacnnWidths
from stfcodec.models.wacnn import WACNN

WIDTHS = WacnnWidths(
    channels=(48, 64, 96, 128),
    heads=8,
    units=3,
    entropy=EntropyWidths(
        slices=4,
        support=4,
        h_a=(128, 96, 80, 72, 64, 48),
        h_s=(48, 64, 72, 80, 96, 128),
        context=(64, 48, 32),
    ),
)

_LOG_GAIN_UNIT = 20.0


class VariableRate(nn.Module):
    """Gains of y and inverse gains of ŷ for each channel and quality (Cui et al., CVPR 2021).

    They are stored as a small part of their logarithms. The learning rate suits convolutions, and
    would hardly move the logarithms themselves.
    """

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(len(LAMBDAS), latents))
        self.inverse = nn.Parameter(torch.zeros(len(LAMBDAS), latents))

    @torch.no_grad()
    def set(self, log_gains: Tensor) -> None:
        """Set the gains of each quality, (6,), and their inverses."""
        self.gain.copy_(log_gains[:, None] / _LOG_GAIN_UNIT)
        self.inverse.copy_(-self.gain)

    def forward(self, quality: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
        """The factors (B, M, 1, 1) of y and of ŷ. y: (B, M, h, w)."""
        if not isinstance(quality, Tensor):
            quality = torch.full((len(y),), quality, device=y.device)
        gain, inverse = (
            (_LOG_GAIN_UNIT * at_quality(table, quality)).exp()[:, :, None, None]
            for table in (self.gain, self.inverse)
        )
        return gain, inverse


class StudyWacnn(WACNN):
    """WACNN of variable rate with the attention of one kind."""

    def __init__(self, attention: str, widths: WacnnWidths = WIDTHS) -> None:
        super().__init__(widths, attention_maker(attention, widths))
        self.variable_rate = VariableRate(widths.entropy.latents)

    def gains(self, quality: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
        factors: tuple[Tensor, Tensor] = self.variable_rate(quality, y)
        return factors


class StudyHyperprior(CompressionModel):
    """A mean-scale hyperprior of variable rate with the attention of one kind.

    y is coded in one pass, with means and scales from z alone. It is measured and not deployed, and
    has no integer form.
    """

    integer_replaces = ()

    def __init__(self, attention: str, widths: WacnnWidths = WIDTHS) -> None:
        super().__init__()
        transforms = WACNN(widths, attention_maker(attention, widths))
        self.g_a, self.g_s = transforms.g_a, transforms.g_s
        N, M = widths.entropy.hyper_latents, widths.entropy.latents
        self.h_a = nn.Sequential(
            conv3x3(M, N), nn.LeakyReLU(), conv5x5_down(N, N), nn.LeakyReLU(), conv5x5_down(N, N)
        )
        self.h_s = nn.Sequential(
            deconv5x5_up(N, M), nn.LeakyReLU(),
            deconv5x5_up(M, M * 3 // 2), nn.LeakyReLU(),
            conv3x3(M * 3 // 2, 2 * M),
        )  # fmt: skip
        self.entropy_bottleneck = EntropyBottleneck(N)
        self.variable_rate = VariableRate(M)

    @property
    def transforms(self) -> frozenset[str]:
        return frozenset({"g_a", "g_s"})

    def analysis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        return (Stage(self.g_a, (1, 16), 0),)

    def synthesis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        return (Stage(self.g_s, (16, 1), 0),)

    def set_precision(self, precision: torch.dtype) -> None:
        if precision != torch.float32:
            raise NotImplementedError("the study measures in float32")

    def new_integer(self) -> Any:
        raise NotImplementedError("the study measures the float networks")

    def dequantise(self) -> None:
        raise NotImplementedError("the study measures the float networks")

    def gains(self, quality: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
        factors: tuple[Tensor, Tensor] = self.variable_rate(quality, y)
        return factors

    def hyper_analysis(self, y: Tensor) -> Tensor:
        return at_least_float32(self.h_a(y))

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
        mean, scale = self._predict(z_hat, quality)
        rounded = rounding(y - mean)
        residual = add_uniform_noise(y) - mean if self.training else rounded
        with torch.autocast(y.device.type, enabled=False):
            z_tilde = add_uniform_noise(z) if self.training else z_hat
            return (
                rounded + mean,
                self.gaussian_conditional.likelihood(residual, scale),
                self.entropy_bottleneck.likelihood(z_tilde),
            )

    def passes(self, y: Tensor) -> Sequence[Tensor]:
        return (y,)

    def join_passes(self, passes: Sequence[Tensor]) -> Tensor:
        return passes[0]

    def decode_symbols(self, z_symbols: Tensor, quality: float, code: SymbolCoder) -> Tensor:
        mean, scale = self._predict(z_symbols + self.entropy_bottleneck.medians(), quality)
        return code(0, mean, self.gaussian_conditional.levels_of(scale)) + mean

    def _predict(self, z_hat: Tensor, quality: Tensor | float) -> tuple[Tensor, Tensor]:
        """Means and scales of y after the gain, each (B, M, h, w), float32."""
        gain, _ = self.gains(quality, z_hat)
        mean, scale = at_least_float32(self.h_s(z_hat)).chunk(2, 1)
        return gain * mean, gain * scale


def build(base: str, attention: str) -> StudyWacnn | StudyHyperprior:
    """A codec of the study with initial weights. base, attention: as of `runs.Run`."""
    return StudyWacnn(attention) if base == "wacnn" else StudyHyperprior(attention)


def describe(name: str) -> ModelInfo:
    """What the training loop asks of a registered model. The id is no model's."""
    return ModelInfo(name, 0, "wacnn", WIDTHS, variable_rate=True, parameters=0)
