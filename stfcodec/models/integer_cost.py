"""What integers cost: bits and PSNR with the integer form of the entropy networks against the float
one."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stfcodec.entropy.tables import CdfTables
from stfcodec.metrics import bd_rate, psnr
from stfcodec.models.base import Code, CompressionModel


class Rates(NamedTuple):
    """Bits of one picture's symbols, z and y together, as its CDF tables count them."""

    floating: float
    integer: float


class Point(NamedTuple):
    """Bits per pixel as the CDF tables count them, and PSNR in dB."""

    bpp: float
    psnr: float


@torch.inference_mode()
def rates(model: CompressionModel, y: Tensor, quality: float) -> Rates:
    """Codes y (1, M, h, w) with both forms of the same weights, and counts."""
    if model.integer is None:
        raise ValueError("the model has no integer form")
    tables = (model.gaussian_conditional.tables,)
    return Rates(
        *(count_bits(model, form, y, quality, tables)[0][0] for form in (None, model.integer))
    )


@torch.inference_mode()
def curves(
    model: CompressionModel, pictures: Sequence[np.ndarray], qualities: Sequence[float]
) -> tuple[list[Point], list[Point]]:
    """The float and the integer form, each decoded from its own symbols: one point a quality.

    pictures: uint8 (H, W, 3), sides multiples of 64.
    """
    if model.integer is None:
        raise ValueError("the model has no integer form")
    forms = (None, model.integer)
    found: tuple[list[list[Point]], ...] = tuple([[] for _ in qualities] for _ in forms)
    for pixels in pictures:
        for i, quality in enumerate(qualities):
            y = analyse(model, pixels, quality)
            for form, columns in zip(forms, found, strict=True):
                columns[i].append(_point(model, form, pixels, y, quality))
    floating, integer = ([Point(*map(mean, zip(*c, strict=True))) for c in f] for f in found)
    return floating, integer


def summary(floating: Sequence[Point], integer: Sequence[Point]) -> str:
    """What integers cost, in words: bits, PSNR, and BD-rate where there are several qualities."""
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
) -> Point:
    (bits,), y_hat = count_bits(model, form, y, quality, (model.gaussian_conditional.tables,))
    y_hat = y_hat * model.gains(quality, y_hat)[1]
    x_hat = model.synthesis(y_hat, quality)[0].clamp(0, 1).mul(255).round().byte()
    return Point(bits / pixels[..., 0].size, psnr(pixels, x_hat.permute(1, 2, 0).numpy()))


@torch.inference_mode()
def analyse(model: CompressionModel, pixels: np.ndarray, quality: float) -> Tensor:
    """y (1, M, H/16, W/16) of uint8 (H, W, 3), sides multiples of 64."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return model.analysis(x, quality)


def count_bits(
    model: CompressionModel,
    form: nn.Module | None,
    y: Tensor,
    quality: float,
    tables: Sequence[CdfTables],
) -> tuple[np.ndarray, Tensor]:
    """Bits of the symbols of y and z with each of these tables for y, and ŷ before the inverse
    gain."""
    z, targets = model.targets(y, quality)
    channels = torch.arange(z.shape[1])[:, None, None].expand(z.shape)
    bits = np.full(len(tables), _bits(model.entropy_bottleneck.tables, z, channels))

    def code(i: int, mean: Tensor, index: Tensor) -> Tensor:
        nonlocal bits
        symbols = torch.round(targets[i] - mean)
        bits = bits + [_bits(t, symbols, index) for t in tables]
        return symbols

    y_hat = decode_with(model, form, z, quality, code)
    return bits, y_hat


def decode_with(
    model: CompressionModel, form: nn.Module | None, z: Tensor, quality: float, code: Code
) -> Tensor:
    """`decode_symbols` with one form or the other, whatever the model has attached."""
    attached = model.integer
    try:
        model.integer = form
        return model.decode_symbols(z, quality, code)
    finally:
        model.integer = attached


def _bits(tables: CdfTables, symbols: Tensor, index: Tensor) -> float:
    s = symbols.to(torch.int32).numpy().ravel()
    t = index.to(torch.int32).numpy().ravel()
    value, share, escape = tables.locate(s, t)
    outside = share == escape
    # A symbol from outside its table takes some groups of four bits besides.
    excess = np.where(value < 0, -value, value - escape + 1)[outside]
    groups = 1 + np.ceil(np.log2(2 * excess + 1) / 4)
    return float(tables.bits[tables.starts[t] + share].sum(dtype=np.float64) + 4 * groups.sum())
