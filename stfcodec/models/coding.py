"""The latent coder: the latents of one picture to range-coded bytes, and back.

Every model derives from `LatentCoder` through `base.CompressionModel`. A model says which passes
its latents y are coded in and how each pass is predicted; how passes become bytes is written here,
once.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stfcodec.entropy import rans
from stfcodec.entropy.tables import CdfTables
from stfcodec.errors import StreamError
from stfcodec.geometry import DOWNSAMPLING_Z
from stfcodec.models.integer_layers import SYMBOL_BOUND
from stfcodec.models.priors import EntropyBottleneck, GaussianConditional
from stfcodec.models.registry import MAX_QUALITY

SymbolCoder = Callable[[int, Tensor, Tensor], Tensor]
"""(pass number, means, scale levels) -> symbols of that pass; all three tensors have one shape."""


Observer = Callable[[CdfTables, np.ndarray, np.ndarray, Sequence[int]], object]
"""Sees decoded symbols: the tables, the symbols and their table indexes (N,), and the shape of the
tensor that they fill."""


class CodedLatents(NamedTuple):
    """The range-coded latents of one picture."""

    z: bytes
    y: bytes
    checksum: int
    """CRC-32 of the symbols of z and then of y."""


class LatentCoder(nn.Module, ABC):
    """Codes y (B, M, h, w) by way of hyper-latents z (B, N, h/4, w/4); h and w are multiples of 4.

    Qualities are numbers in 1…6, or a tensor (B,) of them. A model with one weights file per
    quality ignores them.
    """

    entropy_bottleneck: EntropyBottleneck
    integer: Any
    """The integer form of the entropy networks. None in training, where the float networks run."""

    def __init__(self) -> None:
        super().__init__()
        self.gaussian_conditional = GaussianConditional()
        self.integer = None

    @abstractmethod
    def gains(self, quality: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of y before rounding and of ŷ after it, each (B or 1, M or 1, 1, 1)."""

    @abstractmethod
    def hyper_analysis(self, y: Tensor) -> Tensor:
        """h_a: y (B, M, h, w) after the gain -> z (B, N, h/4, w/4), float32, not rounded."""

    @abstractmethod
    def passes(self, y: Tensor) -> Sequence[Tensor]:
        """y (B, M, h, w) after the gain, cut into the parts that are coded one after the other."""

    @abstractmethod
    def join_passes(self, passes: Sequence[Tensor]) -> Tensor:
        """The inverse of `passes`: (B, M, h, w)."""

    @abstractmethod
    def decode_symbols(self, z_symbols: Tensor, quality: float, code: SymbolCoder) -> Tensor:
        """ŷ (B, M, h, w) before the inverse gain, from the symbols of z (B, N, h/4, w/4).

        `code` is called once per pass, in order, with tensors in the shape of that pass. Scale
        levels come from the integer form, which gives equal levels on every machine. A model
        without one uses the float networks, for measurements only.
        """

    def update(self) -> None:
        """Rebuild the integer CDF tables, which coding needs, from the trained priors."""
        self.entropy_bottleneck.update()
        self.gaussian_conditional.update()

    def symbols_and_passes(self, y: Tensor, quality: float) -> tuple[Tensor, Sequence[Tensor]]:
        """The symbols of z (B, N, h/4, w/4), and the passes of y (B, M, h, w) after the gain."""
        y = y * self.gains(quality, y)[0]
        z = self.hyper_analysis(y)
        z_symbols = symbols_of(z - self.entropy_bottleneck.medians())
        return z_symbols.contiguous(), self.passes(y)

    @torch.inference_mode()
    def compress(self, y: Tensor, quality: float = MAX_QUALITY) -> CodedLatents:
        """Range-code y (1, M, h, w) of one picture."""
        z_symbols, passes = self.symbols_and_passes(y, quality)
        z_flat, channels = flat(z_symbols), channel_indexes(z_symbols.shape)
        z_bytes = rans.encode(z_flat, channels, self.entropy_bottleneck.tables)
        crc = checksum(z_flat)
        encoder = rans.Encoder(self.gaussian_conditional.tables)

        def code(i: int, mean: Tensor, level: Tensor) -> Tensor:
            nonlocal crc
            symbols = symbols_of(passes[i] - mean)
            flat_symbols = flat(symbols)
            encoder.add(flat_symbols, flat(level))
            crc = checksum(flat_symbols, crc)
            return symbols

        self.decode_symbols(z_symbols, quality, code)
        return CodedLatents(z_bytes, encoder.finish(), crc)

    @torch.inference_mode()
    def decompress(
        self, coded: CodedLatents, size: tuple[int, int], quality: float = MAX_QUALITY
    ) -> Tensor:
        """ŷ (1, M, 4·h, 4·w) after the inverse gain, from latents whose z has the size (h, w).

        Raises StreamError where the decoded symbols are not the encoded ones.
        """
        y_hat = self._decode_latents(
            coded, size, quality, lambda tables, symbols, indexes, shape: None
        )
        return y_hat * self.gains(quality, y_hat)[1]

    @torch.inference_mode()
    def bits_per_position(
        self, coded: CodedLatents, size: tuple[int, int], quality: float = MAX_QUALITY
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bits at each position of y (4·h, 4·w) and of z (h, w), summed over channels, float32.

        Arguments and errors are as of `decompress`. The sum of both differs from the bits of the
        range-coded bytes by what ends a range coder's stream, a few bytes.
        """
        bits: list[Tensor] = []

        def observe(
            tables: CdfTables, symbols: np.ndarray, indexes: np.ndarray, shape: Sequence[int]
        ) -> None:
            bits.append(torch.from_numpy(tables.costs(symbols, indexes)).view(*shape))

        self._decode_latents(coded, size, quality, observe)
        z_bits, *passes = bits
        y_bits = self.join_passes(passes)
        return y_bits.sum(1)[0].numpy(), z_bits.sum(1)[0].numpy()

    def _decode_latents(
        self, coded: CodedLatents, size: tuple[int, int], quality: float, observe: Observer
    ) -> Tensor:
        """ŷ before the inverse gain, as `decompress`. `observe` sees z, then each pass of y."""
        medians = self.entropy_bottleneck.medians()
        shape = (1, medians.shape[1], *size)
        self._check_size(coded, size)
        z_decoder = rans.Decoder(coded.z, self.entropy_bottleneck.tables)
        z_flat = z_decoder.decode(channel_indexes(shape))
        z_decoder.finish()
        z_symbols = torch.from_numpy(z_flat).to(medians.device, torch.float32).view(shape)
        decoder = rans.Decoder(coded.y, self.gaussian_conditional.tables)
        crc = checksum(z_flat)
        observe(self.entropy_bottleneck.tables, z_flat, channel_indexes(shape), shape)

        def code(_: int, mean: Tensor, level: Tensor) -> Tensor:
            nonlocal crc
            indexes = flat(level)
            flat_symbols = decoder.decode(indexes)
            crc = checksum(flat_symbols, crc)
            observe(self.gaussian_conditional.tables, flat_symbols, indexes, mean.shape)
            return torch.from_numpy(flat_symbols).to(mean).view(mean.shape)

        y_hat = self.decode_symbols(z_symbols, quality, code)
        decoder.finish()
        if crc != coded.checksum:
            raise StreamError(
                "the decoded symbols do not match the stream's checksum; "
                "the file or the weights are damaged"
            )
        return y_hat

    def _check_size(self, coded: CodedLatents, size: tuple[int, int]) -> None:
        """Raise StreamError where the bytes of z are too few for z of this size.

        Every symbol costs at least a known number of bits. The check comes before any memory is
        taken for the symbols.
        """
        z_bits = size[0] * size[1] * float(self.entropy_bottleneck.tables.least_bits.sum())
        if z_bits > 8 * len(coded.z):
            raise StreamError(
                f"damaged: {len(coded.z)} bytes of hyper-latents cannot be a picture of "
                f"{size[1]}x{size[0]} blocks of {DOWNSAMPLING_Z} pixels"
            )


def symbols_of(x: Tensor) -> Tensor:
    """The integers nearest to x, clamped to what the integer networks accept. Any shape."""
    return torch.round(x).clamp(-SYMBOL_BOUND, SYMBOL_BOUND)


def flat(t: Tensor) -> np.ndarray:
    """t as int32 with one axis, in row-major order, which is the order of the stream."""
    return t.to(torch.int32).contiguous().cpu().numpy().ravel()


def channel_indexes(shape: Sequence[int]) -> np.ndarray:
    """The table index of each symbol of z (1, N, h, w), int32 (N·h·w,): the symbol's channel."""
    _, channels, height, width = shape
    return np.repeat(np.arange(channels, dtype=np.int32), height * width)


def checksum(symbols: np.ndarray, previous: int = 0) -> int:
    """CRC-32 of int32 symbols, continued from the CRC-32 of the previous ones."""
    return zlib.crc32(symbols.astype("<i4", copy=False).data, previous)
