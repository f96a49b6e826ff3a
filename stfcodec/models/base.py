"""The base class of every model: analysis and synthesis transforms around a latent coder.

`coding.py` has the latent coder. `channelwise.py` derives the published networks from this class,
and `lite.py` the lite models.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stfcodec.models.coding import LatentCoder
from stfcodec.models.layers import at_least_float32
from stfcodec.models.priors import ste_round
from stfcodec.models.registry import MAX_QUALITY


class Stage(NamedTuple):
    """A part of a transform that runs in one piece or tile by tile."""

    run: Callable[[Tensor], Tensor]
    strides: tuple[int, int]
    """Pixels per position, each way, of the input and of the output."""
    margin: int
    """The receptive field reaches this many pixels beyond an output, at most. A multiple of what an
    attention window spans, so that a tile has its windows where the whole picture has them."""
    tile_scale: float = 1
    """Side of a tile in units of `tiling.CORE`. Coarse maps have larger tiles, as their margins are
    larger."""


class CompressionModel(LatentCoder):
    """A network of analysis g_a, synthesis g_s and an entropy model of the latents y between them.

    Pictures are (B, 3, H, W) float in 0…1, H and W multiples of 64. y is (B, M, H/16, W/16) and z
    is (B, N, H/64, W/64).
    """

    fingerprint: bytes = b""
    """The 4 bytes of `weights.fingerprint`; empty for initial weights."""

    precision = torch.float32
    """Data type of the transforms and h_a, see `set_precision`; in training also of the entropy
    networks."""

    integer_replaces: ClassVar[tuple[str, ...]]
    """Names of the float networks that the integer form replaces."""

    @property
    @abstractmethod
    def transforms(self) -> frozenset[str]:
        """Names of the submodules that may run on any device. The others stay on the CPU, because
        the probabilities of symbols depend on them."""

    @abstractmethod
    def new_integer(self) -> Any:
        """An integer form of the entropy networks, without weights."""

    @abstractmethod
    def dequantise(self) -> None:
        """Copy the weights of the integer form into the float networks that it replaces."""

    @abstractmethod
    def analysis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        """g_a as stages from the picture to y."""

    @abstractmethod
    def synthesis_stages(self, quality: Tensor | float) -> tuple[Stage, ...]:
        """g_s as stages from ŷ to the picture."""

    def scaled_synthesis_stages(self, quality: Tensor | float, divisor: int) -> tuple[Stage, ...]:
        """g_s as stages from ŷ to a smaller picture, each of whose pixels is a mean of divisor².

        divisor: a power of two, at most 16.
        """
        *others, last = self.synthesis_stages(quality)

        def run(x: Tensor) -> Tensor:
            return F.avg_pool2d(last.run(x).float().clamp_(0, 1), divisor)

        return (*others, last._replace(run=run, strides=(last.strides[0], divisor)))

    @abstractmethod
    def set_precision(self, precision: torch.dtype) -> None:
        """Make the transforms and h_a compute in `precision`, for inference only. Layers that need
        more than the 8 bits of bfloat16 stay in float32."""

    @abstractmethod
    def estimate(
        self,
        y: Tensor,
        quality: Tensor | float,
        rounding: Callable[[Tensor], Tensor] = ste_round,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """ŷ before the inverse gain, likelihoods of y and likelihoods of z, by the float networks.

        y: (B, M, h, w) after the gain. rounding: the function that quantises y − mean. In training
        mode the likelihoods are those of latents with additive uniform noise.
        """

    def analysis(self, x: Tensor, quality: Tensor | float = MAX_QUALITY) -> Tensor:
        """g_a: picture (B, 3, H, W) -> latents y (B, M, H/16, W/16), float32 or float64."""
        for stage in self.analysis_stages(quality):
            x = stage.run(x)
        return at_least_float32(x)

    def synthesis(self, y_hat: Tensor, quality: Tensor | float = MAX_QUALITY) -> Tensor:
        """g_s: ŷ (B, M, H/16, W/16) -> picture (B, 3, H, W), not clamped."""
        for stage in self.synthesis_stages(quality):
            y_hat = stage.run(y_hat)
        return y_hat

    def forward(self, x: Tensor, quality: Tensor | float = MAX_QUALITY) -> dict[str, Any]:
        """The whole network, for training and for estimates of the rate.

        Returns x_hat, in the shape of x, and likelihoods of y and z, whose −log2 are bits. Rounding
        is straight-through: gradients pass.
        """
        y = self.analysis(x, quality)
        gain, inverse = self.gains(quality, y)
        y_hat, y_likelihoods, z_likelihoods = self.estimate(y * gain, quality)
        return {
            "x_hat": self.synthesis(y_hat * inverse, quality),
            "likelihoods": {"y": y_likelihoods, "z": z_likelihoods},
        }
