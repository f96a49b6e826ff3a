"""What every model is: transforms around an entropy model, coded latent by latent.

Networks differ in how they transform pictures and predict latents; how a picture's latents become
bytes and symbols is written here, once. `channelwise.py` has the entropy model of the published
networks, `lite.py` the lite models.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stfcodec.entropy import rans
from stfcodec.errors import StreamError
from stfcodec.models.integer import MAX_SYMBOL
from stfcodec.models.priors import EntropyBottleneck, GaussianConditional, ste_round
from stfcodec.models.registry import MAX_QUALITY

DOWNSAMPLING_Y, DOWNSAMPLING_Z = 16, 64
"""Pixels per latent and per hyper-latent position, each way."""

Code = Callable[[int, Tensor, Tensor], Tensor]
"""(pass, mean, row of the tables) -> the symbols of that pass."""


class Step(NamedTuple):
    """One stretch of a transform, to be run in one piece or tile by tile.

    `spans`: how many pixels one position of its input and one of its output spans, each way.
    `margin`: pixels beyond which nothing bears on an output. Tiles that start at multiples of it
    have their attention windows where the whole picture has them. `tiles`: how many times
    `tiling.CORE` a tile is wide; more where maps are coarse and overlap by more.
    """

    run: Callable[[Tensor], Tensor]
    spans: tuple[int, int]
    margin: int
    tiles: float = 1


def round_up(n: int, to: int) -> int:
    """The least multiple of `to` that is not below n."""
    return -(-n // to) * to


class CodedLatents(NamedTuple):
    """One picture's latents as range-coded bytes, and the CRC32 of the symbols inside them."""

    z: bytes
    y: bytes
    checksum: int


class CompressionModel(nn.Module, ABC):
    """Analysis and synthesis transforms, and an entropy model between them.

    Pictures are (B, 3, H, W) float in 0…1, H and W multiples of 64; y is (B, M, H/16, W/16) and
    z is (B, N, H/64, W/64). Qualities are numbers in 1…6, or a tensor (B,) of them; models with one
    weights file for each quality pass them over.
    """

    fingerprint: bytes = b""
    """First four bytes of the SHA-256 of the weights file; empty for initial weights."""

    precision = torch.float32
    """What the transforms and h_a compute in, see `set_precision`; when training, the entropy
    networks too."""

    entropy_bottleneck: EntropyBottleneck
    integer: Any
    """What decides symbols' probabilities, in integers; None in training."""

    integer_replaces: ClassVar[tuple[str, ...]]
    """The float networks that the integer form stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.gaussian_conditional = GaussianConditional()
        self.integer = None

    @property
    @abstractmethod
    def transforms(self) -> frozenset[str]:
        """Submodules that may run on any device. The others stay on the CPU, because a symbol's
        probability depends on them or they on it."""

    @abstractmethod
    def new_integer(self) -> Any:
        """An integer form without weights."""

    @abstractmethod
    def dequantise(self) -> None:
        """Gives the float networks the weights that the integer form stands for."""

    @abstractmethod
    def analysis_steps(self, quality: Tensor | float) -> tuple[Step, ...]:
        """g_a as steps from the picture to y."""

    @abstractmethod
    def synthesis_steps(self, quality: Tensor | float) -> tuple[Step, ...]:
        """g_s as steps from ŷ to the picture."""

    @abstractmethod
    def set_precision(self, precision: torch.dtype) -> None:
        """Makes the transforms and h_a compute in bfloat16, for inference only; layers that need
        more than its 8 bits stay float32."""

    @abstractmethod
    def gains(self, quality: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
        """What y is multiplied by before rounding, and ŷ after it: each (B or 1, M or 1, 1, 1)."""

    @abstractmethod
    def hyper_analysis(self, y: Tensor) -> Tensor:
        """h_a: y (B, M, h, w) after the gain -> z (B, N, h/4, w/4), float32, not rounded."""

    @abstractmethod
    def estimate(
        self,
        y: Tensor,
        quality: Tensor | float,
        rounding: Callable[[Tensor], Tensor] = ste_round,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """y (B, M, h, w) after the gain -> ŷ before its inverse, likelihoods of y and of z.

        Through the float networks. rounding: what y − mean goes through. In training mode
        likelihoods are those of latents with uniform noise.
        """

    @abstractmethod
    def passes(self, y: Tensor) -> Sequence[Tensor]:
        """y (B, M, h, w) after the gain, cut into what is coded one after the other."""

    @abstractmethod
    def decode_symbols(self, z_symbols: Tensor, quality: float, code: Code) -> Tensor:
        """ŷ (B, M, h, w) before the inverse gain, from the symbols of z (B, N, h/4, w/4).

        `code` gets each pass's means and table rows, both in the shape of that pass, and returns
        its symbols. Rows come from the integer form, which every machine computes alike; a model
        without goes through the float networks, for measurements only.
        """

    def analysis(self, x: Tensor, quality: Tensor | float = MAX_QUALITY) -> Tensor:
        """g_a: picture (B, 3, H, W) -> latents y (B, M, H/16, W/16), float32."""
        for step in self.analysis_steps(quality):
            x = step.run(x)
        return x.float()

    def synthesis(self, y_hat: Tensor, quality: Tensor | float = MAX_QUALITY) -> Tensor:
        """g_s: ŷ (B, M, H/16, W/16) -> picture (B, 3, H, W), not clamped."""
        for step in self.synthesis_steps(quality):
            y_hat = step.run(y_hat)
        return y_hat

    def forward(self, x: Tensor, quality: Tensor | float = MAX_QUALITY) -> dict:
        """One pass for training or for estimating rate.

        Returns x_hat (as x) and likelihoods of y and z, whose −log2 are bits. In training mode
        rounding lets gradients pass.
        """
        y = self.analysis(x, quality)
        gain, inverse = self.gains(quality, y)
        y_hat, y_likelihoods, z_likelihoods = self.estimate(y * gain, quality)
        return {
            "x_hat": self.synthesis(y_hat * inverse, quality),
            "likelihoods": {"y": y_likelihoods, "z": z_likelihoods},
        }

    # -------------------------------------------------------------------------- coding

    def update(self) -> None:
        """Rebuilds the integer tables from the trained priors; coding needs them."""
        self.entropy_bottleneck.update()
        self.gaussian_conditional.update()

    def targets(self, y: Tensor, quality: float) -> tuple[Tensor, Sequence[Tensor]]:
        """What coding y (B, M, h, w) begins with: the symbols of z (B, N, h/4, w/4), and the passes
        of y after the gain."""
        y = y * self.gains(quality, y)[0]
        z = self.hyper_analysis(y)
        z_symbols = symbols_of(z - self.entropy_bottleneck.medians())
        return z_symbols.contiguous(), self.passes(y)

    @torch.inference_mode()
    def compress(self, y: Tensor, quality: float = MAX_QUALITY) -> CodedLatents:
        """Range-codes the latents of one picture. y: (1, M, h, w), h and w multiples of 4."""
        z_symbols, targets = self.targets(y, quality)
        z_flat, rows = flat(z_symbols), channel_rows(z_symbols.shape)
        z_bytes = rans.encode(z_flat, rows, self.entropy_bottleneck.tables)
        crc = checksum(z_flat)
        encoder = rans.Encoder(self.gaussian_conditional.tables)

        def code(i: int, mean: Tensor, row: Tensor) -> Tensor:
            nonlocal crc
            rounded = symbols_of(targets[i] - mean)
            flat_symbols = flat(rounded)
            encoder.add(flat_symbols, flat(row))
            crc = checksum(flat_symbols, crc)
            return rounded

        self.decode_symbols(z_symbols, quality, code)
        return CodedLatents(z_bytes, encoder.finish(), crc)

    @torch.inference_mode()
    def decompress(
        self, coded: CodedLatents, size: tuple[int, int], quality: float = MAX_QUALITY
    ) -> Tensor:
        """ŷ (1, M, 4·h, 4·w), ready for synthesis, from z of `size` (h, w).

        Raises StreamError where the symbols are not the ones that were encoded.
        """
        medians = self.entropy_bottleneck.medians()
        shape = (1, medians.shape[1], *size)
        self._check_room(coded, size)
        z_decoder = rans.Decoder(coded.z, self.entropy_bottleneck.tables)
        z_flat = z_decoder.decode(channel_rows(shape))
        z_decoder.finish()
        z_symbols = torch.from_numpy(z_flat).to(medians.device, torch.float32).view(shape)
        decoder = rans.Decoder(coded.y, self.gaussian_conditional.tables)
        crc = checksum(z_flat)

        def code(_: int, mean: Tensor, row: Tensor) -> Tensor:
            nonlocal crc
            flat_symbols = decoder.decode(flat(row))
            crc = checksum(flat_symbols, crc)
            return torch.from_numpy(flat_symbols).to(mean).view(mean.shape)

        y_hat = self.decode_symbols(z_symbols, quality, code)
        decoder.finish()
        if crc != coded.checksum:
            raise StreamError(
                "the decoded symbols do not match the stream's checksum; "
                "the file or the weights are damaged"
            )
        return y_hat * self.gains(quality, y_hat)[1]

    def _check_room(self, coded: CodedLatents, size: tuple[int, int]) -> None:
        """A symbol costs something: no memory for more of them than the bytes can hold."""
        z_bits = size[0] * size[1] * float(self.entropy_bottleneck.tables.least_bits.sum())
        if z_bits > 8 * len(coded.z):
            raise StreamError(
                f"damaged: {len(coded.z)} bytes of hyper-latents cannot be a picture of "
                f"{size[1]}x{size[0]} blocks of {DOWNSAMPLING_Z} pixels"
            )


def symbols_of(x: Tensor) -> Tensor:
    """The integers nearest to x, as far as the entropy path follows them."""
    return torch.round(x).clamp(-MAX_SYMBOL, MAX_SYMBOL)


def noisy(x: Tensor) -> Tensor:
    """x with the uniform noise that stands for rounding in training."""
    return x + torch.rand_like(x) - 0.5


def flat(t: Tensor) -> np.ndarray:
    """int32, one dimension, in the order of the dimensions: the order of the stream."""
    return t.to(torch.int32).contiguous().cpu().numpy().ravel()


def channel_rows(shape: Sequence[int]) -> np.ndarray:
    """The table of each symbol of z (1, N, h, w): its channel's."""
    _, channels, height, width = shape
    return np.repeat(np.arange(channels, dtype=np.int32), height * width)


def checksum(symbols: np.ndarray, before: int = 0) -> int:
    """CRC-32 of int32 symbols, going on from that of what came before."""
    return zlib.crc32(symbols.astype("<i4", copy=False).data, before)
