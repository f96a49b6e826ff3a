"""The cost of integer arithmetic: bits and PSNR of the integer form against the float networks.

Both code the same latents, each is decoded from its own symbols, and CDF tables count the bits.
Pictures are uint8 (H, W, 3), sides multiples of 64.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stfcodec.entropy.tables import CdfTables
from stfcodec.metrics import bd_rate, psnr
from stfcodec.models.base import CompressionModel
from stfcodec.models.coding import SymbolCoder, channel_indexes, flat


class Point(NamedTuple):
    """One point of a rate-distortion curve: bits per pixel, and PSNR in dB."""

    bpp: float
    psnr: float


def curves(
    model: CompressionModel,
    pictures: Sequence[np.ndarray],
    qualities: Sequence[float],
    tables: CdfTables | None = None,
) -> tuple[list[Point], list[Point]]:
    """Rate-distortion curves of the float networks and of the integer form, see `curve`.

    Raises ValueError where the model has no integer form.
    """
    if model.integer is None:
        raise ValueError("the model has no integer form")
    floating = curve(model, None, pictures, qualities, tables)
    return floating, curve(model, model.integer, pictures, qualities, tables)


@torch.inference_mode()
def curve(
    model: CompressionModel,
    form: nn.Module | None,
    pictures: Sequence[np.ndarray],
    qualities: Sequence[float],
    tables: CdfTables | None = None,
) -> list[Point]:
    """One point per quality, the mean over the pictures.

    form: the integer form, or None for the float networks. tables: of y; None: the model's own.
    """
    tables = tables or model.gaussian_conditional.tables
    points: list[Point] = []
    for quality in qualities:
        found = [
            _point(model, form, pixels, analyse(model, pixels, quality), quality, tables)
            for pixels in pictures
        ]
        points.append(Point(*map(mean, zip(*found, strict=True))))
    return points


def summary(floating: Sequence[Point], integer: Sequence[Point]) -> str:
    """The differences in bits and PSNR in words, and BD-rate where there are several qualities."""
    bits = sum(p.bpp for p in integer) / sum(p.bpp for p in floating) - 1
    decibels = mean(p.psnr for p in integer) - mean(p.psnr for p in floating)
    text = f"integers against float {100 * bits:+.3f} % bits, {decibels:+.4f} dB"
    return text + (f", BD-rate {bd_rate(floating, integer):+.3f} %" if len(floating) > 1 else "")


def _point(
    model: CompressionModel,
    form: nn.Module | None,
    pixels: np.ndarray,
    y: Tensor,
    quality: float,
    tables: CdfTables,
) -> Point:
    bits, y_hat = count_bits(model, form, y, quality, tables)
    y_hat = y_hat * model.gains(quality, y_hat)[1]
    x_hat = model.synthesis(y_hat, quality)[0].clamp(0, 1).mul(255).round().byte()
    return Point(bits / pixels[..., 0].size, psnr(pixels, x_hat.permute(1, 2, 0).numpy()))


@torch.inference_mode()
def analyse(model: CompressionModel, pixels: np.ndarray, quality: float) -> Tensor:
    """The latents y (1, M, H/16, W/16) of a picture."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return model.analysis(x, quality)


def count_bits(
    model: CompressionModel,
    form: nn.Module | None,
    y: Tensor,
    quality: float,
    tables: CdfTables,
) -> tuple[float, Tensor]:
    """Bits of the symbols of z and y, and ŷ (1, M, h, w) before the inverse gain.

    form: the integer form, or None for the float networks. y: (1, M, h, w). tables: of y.
    """
    z, passes = model.symbols_and_passes(y, quality)
    bits = model.entropy_bottleneck.tables.cost(flat(z), channel_indexes(z.shape))

    def code(i: int, mean: Tensor, level: Tensor) -> Tensor:
        nonlocal bits
        symbols = torch.round(passes[i] - mean)
        bits += tables.cost(flat(symbols), flat(level))
        return symbols

    y_hat = decode_with(model, form, z, quality, code)
    return bits, y_hat


def decode_with(
    model: CompressionModel, form: nn.Module | None, z: Tensor, quality: float, code: SymbolCoder
) -> Tensor:
    """`model.decode_symbols` with this form in place of `model.integer`."""
    attached = model.integer
    try:
        model.integer = form
        return model.decode_symbols(z, quality, code)
    finally:
        model.integer = attached
