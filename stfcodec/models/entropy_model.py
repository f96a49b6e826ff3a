"""The entropy model both families share: hyper-prior and channel-wise autoregressive context.

One loop over slices (`_decode_slices`) serves training, compression and decompression; what differs
is the callback that turns a slice's predicted mean and scale into its quantised latents.
Source: Minnen & Singh, "Channel-wise autoregressive entropy models" (ICIP 2020), as used by the
paper (§3.4).
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stfcodec.entropy import rans
from stfcodec.errors import StreamError
from stfcodec.models.integer import MAX_SYMBOL, IntegerEntropy
from stfcodec.models.layers import conv3x3, subpel3x3
from stfcodec.models.priors import EntropyBottleneck, GaussianConditional, ste_round
from stfcodec.models.registry import LAMBDAS, MAX_QUALITY, EntropyWidths
from stfcodec.models.tilt import Tilt, lean, replaced

DOWNSAMPLING_Y, DOWNSAMPLING_Z = 16, 64
"""Pixels per latent and per hyper-latent position, each way."""

ENTROPY_PARTS = frozenset({
    "h_a", "h_mean_s", "h_scale_s", "cc_mean_transforms", "cc_scale_transforms", "lrp_transforms",
    "entropy_bottleneck", "gaussian_conditional", "gain", "integer",
})  # fmt: skip
"""Submodules that stay on the CPU, because a symbol's probability depends on them or they on it;
the rest are the transforms."""


class Step(NamedTuple):
    """One stretch of a transform, to be run in one piece or tile by tile.

    `spans`: how many pixels one position of its input and one of its output spans, each way.
    `margin`: pixels beyond which nothing bears on an output. Tiles that start at multiples of it
    have their attention windows where the whole picture has them.
    """

    run: Callable[[Tensor], Tensor]
    spans: tuple[int, int]
    margin: int


def round_up(n: int, to: int) -> int:
    """The least multiple of `to` that is not below n."""
    return -(-n // to) * to


class CodedLatents(NamedTuple):
    """One picture's latents as range-coded bytes, and the CRC32 of the symbols inside them."""

    z: bytes
    y: bytes
    checksum: int


class Gain(nn.Module):
    """Variable rate: y is multiplied by gain[q] before rounding, ŷ by inverse[q] after it.

    Both are stored as logarithms, one row a quality, so a fractional quality interpolates
    geometrically between its neighbours (Cui et al., "Asymmetric gained deep image compression",
    CVPR 2021).
    """

    def __init__(self, qualities: int, channels: int) -> None:
        super().__init__()
        # λ's ratio to the highest: the uniform step that is optimal at high rate goes with 1/√λ.
        start = 0.5 * torch.log(torch.tensor(LAMBDAS[:qualities]) / LAMBDAS[qualities - 1])
        self.log_gain = nn.Parameter(start[:, None].repeat(1, channels))
        self.log_inverse = nn.Parameter(-start[:, None].repeat(1, channels))

    def forward(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """quality: (B,) in 1…Q -> gain and inverse gain, each (B, channels, 1, 1)."""
        position = quality.float() - 1
        lower = position.floor().long().clamp(0, self.log_gain.shape[0] - 2)
        weight = (position - lower)[:, None]
        gain, inverse = (
            torch.lerp(table[lower], table[lower + 1], weight).exp()[:, :, None, None]
            for table in (self.log_gain, self.log_inverse)
        )
        return gain, inverse


def _context_transforms(widths: EntropyWidths, own_slices: int = 0) -> nn.ModuleList:
    """One per slice: from y's channels and the decoded slices it sees to one slice's channels,
    by 3×3 convolutions with GELU between them. `own_slices`: whether it sees its own slice too."""
    channels = widths.latents // widths.slices
    transforms = nn.ModuleList()
    for i in range(widths.slices):
        seen = min(i, widths.support) + own_slices
        layers: list[nn.Module] = []
        for a, b in pairwise((widths.latents + channels * seen, *widths.context, channels)):
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


class CompressionModel(nn.Module, ABC):
    """Analysis and synthesis transforms (in subclasses) around the shared entropy model.

    Pictures are (B, 3, H, W) float in 0…1, H and W multiples of 64; y is (B, M, H/16, W/16) and
    z is (B, N, H/64, W/64).
    """

    fingerprint: bytes = b""
    """First four bytes of the SHA-256 of the weights file; empty for initial weights."""

    precision = torch.float32
    """What the transforms compute in, see `set_precision`."""

    def __init__(self, widths: EntropyWidths, variable_rate: bool) -> None:
        super().__init__()
        self.widths, self.slices, self.support = widths, widths.slices, widths.support
        self.integer: IntegerEntropy | None = None
        self.h_a = _hyper_analysis(widths.h_a)
        self.h_mean_s = _hyper_synthesis(widths.h_s)
        self.h_scale_s = _hyper_synthesis(widths.h_s)
        self.cc_mean_transforms = _context_transforms(widths)
        self.cc_scale_transforms = _context_transforms(widths)
        self.lrp_transforms = _context_transforms(widths, own_slices=1)
        self.entropy_bottleneck = EntropyBottleneck(widths.hyper_latents)
        self.gaussian_conditional = GaussianConditional()
        self.gain = Gain(len(LAMBDAS), widths.latents) if variable_rate else None
        self.tilt: Tilt | None = None
        self._lowered: frozenset[str] = frozenset()

    def _add_tilt(self) -> None:
        """For variable rate, once the transforms are there."""
        if self.gain is not None:
            named = self.named_parameters()
            self.tilt = Tilt({n: p for n, p in named if n.split(".")[0] not in ENTROPY_PARTS})

    @abstractmethod
    def analysis_steps(self) -> tuple[Step, ...]:
        """g_a as steps from the picture to y."""

    @abstractmethod
    def synthesis_steps(self) -> tuple[Step, ...]:
        """g_s as steps from ŷ to the picture."""

    @abstractmethod
    def precise_layers(self) -> tuple[nn.Module, ...]:
        """The layers that need more than bfloat16's 8 bits, those that read or write pixels among
        them."""

    def analysis(self, x: Tensor) -> Tensor:
        """g_a: picture (B, 3, H, W) -> latents y (B, M, H/16, W/16)."""
        for step in self.analysis_steps():
            x = step.run(x)
        return x

    def synthesis(self, y_hat: Tensor) -> Tensor:
        """g_s: ŷ (B, M, H/16, W/16) -> picture (B, 3, H, W), not clamped."""
        for step in self.synthesis_steps():
            y_hat = step.run(y_hat)
        return y_hat

    def parameters_at(self, quality: Tensor | float) -> dict[str, Tensor]:
        """The parameters that the transforms have at one quality, by name; {} for models with one
        weights file for each."""
        if self.tilt is None:
            return {}
        amount, middle = lean(quality), dict(self.named_parameters())
        leaning = {n: torch.add(middle[n], slope * amount) for n, slope in self.tilt.items()}
        return {n: p.to(self.precision) if n in self._lowered else p for n, p in leaning.items()}

    def at(self, quality: Tensor | float) -> AbstractContextManager[None]:
        """Inside, the transforms are those of one quality; outside, of the middle one."""
        return replaced(self, self.parameters_at(quality))

    def set_precision(self, precision: torch.dtype) -> None:
        """Makes the transforms and h_a compute in bfloat16, for inference only.

        `precise_layers` stay float32. What leans with quality is rounded in `at`, after it leant.
        """
        self.precision = precision
        kept = {m for layer in self.precise_layers() for m in layer.modules()}
        leaning: list[str] = []
        for name, m in self.named_modules():
            part = name.split(".")[0]
            if m in kept or not isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                continue
            if part == "h_a" or (part not in ENTROPY_PARTS and self.tilt is None):
                m.to(precision)
            elif part not in ENTROPY_PARTS:
                leaning += (f"{name}.{key}" for key, _ in m.named_parameters())
        self._lowered = frozenset(leaning)

    def _lower(self, x: Tensor) -> Tensor:
        """x as the inner layers of the transforms want it."""
        return x if self.precision == torch.float32 else x.to(self.precision)

    def _raise(self, x: Tensor) -> Tensor:
        """x as `precise_layers` want it."""
        return x if self.precision == torch.float32 else x.float()

    def hyper_analysis(self, y: Tensor) -> Tensor:
        """h_a: y (B, M, h, w) after the gain -> z (B, N, h/4, w/4), float32, not rounded.

        Strides choose a convolution's algorithm and so its last bits: they are always the same.
        """
        y = y.contiguous(memory_format=torch.channels_last)
        return self.h_a(self._lower(y)).float()

    # ------------------------------------------------------------------ the slice loop

    def _decode_slices(
        self, z_hat: Tensor, code: Callable[[int, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """ŷ (B, M, h, w) from ẑ. `code(slice, mean, scale)` returns that slice before LRP."""
        means, scales = self.h_mean_s(z_hat), self.h_scale_s(z_hat)
        decoded: list[Tensor] = []
        for i in range(self.slices):
            seen = decoded[: self.support]
            mean_support = torch.cat([means, *seen], 1)
            scale_support = torch.cat([scales, *seen], 1)
            mean = self.cc_mean_transforms[i](mean_support)
            scale = self.cc_scale_transforms[i](scale_support)
            y_hat = code(i, mean, scale)
            lrp = self.lrp_transforms[i](torch.cat([mean_support, y_hat], 1))
            decoded.append(y_hat + 0.5 * torch.tanh(lrp))
        return torch.cat(decoded, 1)

    # ------------------------------------------------------------------------ training

    def forward(self, x: Tensor, quality: Tensor | None = None) -> dict:
        """One pass for training or for estimating rate.

        quality: (G,) in 1…6, for variable-rate models (default: 6), of which each holds for the
        next B/G pictures. Returns x_hat (as x) and likelihoods of y (B, M, h, w) and z
        (B, N, h/4, w/4); bits are their −log2. In training mode likelihoods are those of latents
        with uniform noise and rounding lets gradients pass.
        """
        if quality is None:
            quality = torch.full((1,), MAX_QUALITY, device=x.device)
        y = self._each(quality, self.analysis, x).float().contiguous()
        # Under autocast only the transforms run in low precision: rounding needs y's last bits.
        with torch.autocast(x.device.type, enabled=False):
            y_hat, y_likelihoods, z_likelihoods = self._quantise(y, quality)
        return {
            "x_hat": self._each(quality, self.synthesis, y_hat),
            "likelihoods": {"y": y_likelihoods, "z": z_likelihoods},
        }

    def _each(self, quality: Tensor, transform: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """One of the transforms, each part of the batch at its quality."""
        if self.tilt is None:
            return transform(x)
        done = []
        for q, part in zip(quality, x.chunk(len(quality)), strict=True):
            with self.at(q):
                done.append(transform(part))
        return torch.cat(done)

    def _quantise(self, y: Tensor, quality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y -> ŷ for synthesis, likelihoods of y, likelihoods of z."""
        if self.gain is None:
            return self.estimate(y)
        gain, inverse = self.gain(quality.repeat_interleave(len(y) // len(quality)))
        y_hat, y_likelihoods, z_likelihoods = self.estimate(y * gain)
        return y_hat * inverse, y_likelihoods, z_likelihoods

    def estimate(
        self, y: Tensor, rounding: Callable[[Tensor], Tensor] = ste_round
    ) -> tuple[Tensor, Tensor, Tensor]:
        """y (B, M, h, w) after the gain -> ŷ before its inverse, likelihoods of y and of z.

        Through the float networks. rounding: what y − mean goes through.
        """
        z = self.hyper_analysis(y)
        medians = self.entropy_bottleneck.medians()
        z_hat = ste_round(z - medians) + medians
        z_seen = _noisy(z) if self.training else z_hat
        z_likelihoods = self.entropy_bottleneck.likelihood(z_seen)
        y_likelihoods: list[Tensor] = []
        targets = y.chunk(self.slices, 1)

        def code(i: int, mean: Tensor, scale: Tensor) -> Tensor:
            rounded = rounding(targets[i] - mean)
            residual = _noisy(targets[i]) - mean if self.training else rounded
            y_likelihoods.append(self.gaussian_conditional.likelihood(residual, scale))
            return rounded + mean

        y_hat = self._decode_slices(z_hat, code)
        return y_hat, torch.cat(y_likelihoods, 1), z_likelihoods

    # -------------------------------------------------------------------------- coding

    def update(self) -> None:
        """Rebuilds the integer tables from the trained priors; coding needs them."""
        self.entropy_bottleneck.update()
        self.gaussian_conditional.update()

    def _decode_symbols(
        self, z_symbols: Tensor, code: Callable[[int, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """ŷ (B, M, h, w) from ẑ's symbols. `code(slice, mean, index)` returns the slice's symbols.

        In integers, which every machine computes alike. A model without its integer form goes
        through the float networks: for comparison with the published strings only.
        """
        if self.integer is not None:
            return self.integer.decode_slices(z_symbols, code)

        def code_float(i: int, mean: Tensor, scale: Tensor) -> Tensor:
            return code(i, mean, self.gaussian_conditional.indexes(scale)) + mean

        return self._decode_slices(z_symbols + self.entropy_bottleneck.medians(), code_float)

    def targets(self, y: Tensor, quality: float | None) -> tuple[Tensor, Sequence[Tensor]]:
        """What coding begins with: z's symbols (B, N, h/4, w/4), and the slices of y (B, M, h, w)
        after the gain."""
        if self.gain is not None:
            assert quality is not None
            y = y * self.gain(torch.full((len(y),), quality, device=y.device))[0]
        z = self.hyper_analysis(y)
        z_symbols = symbols_of(z - self.entropy_bottleneck.medians())
        return z_symbols.contiguous(), y.chunk(self.slices, 1)

    @torch.inference_mode()
    def compress(self, y: Tensor, quality: float | None = None) -> CodedLatents:
        """Range-codes the latents of one picture. y: (1, M, h, w), h and w multiples of 4."""
        z_symbols, targets = self.targets(y, quality)
        z_flat, rows = flat(z_symbols), channel_indexes(z_symbols.shape)
        z_bytes = rans.encode(z_flat, rows, self.entropy_bottleneck.tables)
        crc = checksum(z_flat)
        encoder = rans.Encoder(self.gaussian_conditional.tables)

        def code(i: int, mean: Tensor, index: Tensor) -> Tensor:
            nonlocal crc
            rounded = symbols_of(targets[i] - mean)
            flat_symbols = flat(rounded)
            encoder.add(flat_symbols, flat(index))
            crc = checksum(flat_symbols, crc)
            return rounded

        self._decode_symbols(z_symbols, code)
        return CodedLatents(z_bytes, encoder.finish(), crc)

    @torch.inference_mode()
    def decompress(
        self, coded: CodedLatents, size: tuple[int, int], quality: float | None = None
    ) -> Tensor:
        """ŷ (1, M, 4·h, 4·w), ready for synthesis, from z of `size` (h, w).

        Raises StreamError where the symbols are not the ones that were encoded.
        """
        medians = self.entropy_bottleneck.medians()
        shape = (1, medians.shape[1], *size)
        z_flat = rans.Decoder(coded.z, self.entropy_bottleneck.tables).decode(
            channel_indexes(shape)
        )
        z_symbols = torch.from_numpy(z_flat).to(medians.device, torch.float32).view(shape)
        decoder = rans.Decoder(coded.y, self.gaussian_conditional.tables)
        crc = checksum(z_flat)

        def code(_: int, mean: Tensor, index: Tensor) -> Tensor:
            nonlocal crc
            flat_symbols = decoder.decode(flat(index))
            crc = checksum(flat_symbols, crc)
            return torch.from_numpy(flat_symbols).to(mean).view(mean.shape)

        y_hat = self._decode_symbols(z_symbols, code)
        if crc != coded.checksum:
            raise StreamError(
                "the decoded symbols do not match the stream's checksum; "
                "the file or the weights are damaged"
            )
        if self.gain is not None:
            y_hat = y_hat * self.gain(torch.tensor([quality], device=y_hat.device))[1]
        return y_hat


def symbols_of(x: Tensor) -> Tensor:
    """The integers nearest to x, as far as the entropy path follows them."""
    return torch.round(x).clamp(-MAX_SYMBOL, MAX_SYMBOL)


def _noisy(x: Tensor) -> Tensor:
    return x + torch.rand_like(x) - 0.5


def flat(t: Tensor) -> np.ndarray:
    """(1, C, h, w) -> int32, one dimension, channel by channel: the order of the stream."""
    return t.to(torch.int32).contiguous().cpu().numpy().ravel()


def channel_indexes(shape: Sequence[int]) -> np.ndarray:
    _, channels, height, width = shape
    return np.repeat(np.arange(channels, dtype=np.int32), height * width)


def checksum(symbols: np.ndarray, before: int = 0) -> int:
    """CRC-32 of int32 symbols, going on from that of what came before."""
    return zlib.crc32(symbols.astype("<i4", copy=False).data, before)
