"""What the integer form of the entropy networks costs, in rate and time, against the float one; and
what tables fitted to photographs save."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import mean, median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from stfcodec.bench.metrics import bd_rate
from stfcodec.distortion import psnr
from stfcodec.entropy.tables import CdfTables, gaussian_tables
from stfcodec.models.carriers import FloatCarrier, best_carrier
from stfcodec.models.model import Code, CompressionModel
from stfcodec.models.priors import scale_levels


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
    return Rates(*(_code(model, form, y, quality, tables)[0][0] for form in (None, model.integer)))


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
    (bits,), y_hat = _code(model, form, y, quality, (model.gaussian_conditional.tables,))
    y_hat = y_hat * model.gains(quality, y_hat)[1]
    x_hat = model.synthesis(y_hat, quality)[0].clamp(0, 1).mul(255).round().byte()
    return Point(bits / pixels[..., 0].size, psnr(pixels, x_hat.permute(1, 2, 0).numpy()))


@torch.inference_mode()
def saved(
    model: CompressionModel, pictures: Sequence[np.ndarray], qualities: Sequence[float]
) -> list[float]:
    """By how much the tables of y change the bits, against those of Gaussians: −0.01 is one per
    cent fewer. One number a quality."""
    both = model.gaussian_conditional.tables, gaussian_tables(scale_levels().numpy())
    bits = np.zeros((2, len(qualities)))
    for pixels in pictures:
        for i, quality in enumerate(qualities):
            y = analyse(model, pixels, quality)
            bits[:, i] += _code(model, model.integer, y, quality, both)[0]
    return list(bits[0] / bits[1] - 1)


@torch.inference_mode()
def seconds(model: CompressionModel, y: Tensor, quality: float, rounds: int = 15) -> list[float]:
    """Median times of the networks alone (no range coding), taken in turns: with the float form,
    with the integer form as it runs here, and with integers in float32 convolutions."""
    if model.integer is None:
        raise ValueError("the model has no integer form")
    z, targets = model.targets(y, quality)
    # Prepared once each: both are ready all the time.
    plain = model.new_integer()
    plain.load_state_dict(model.integer.state_dict())
    model.integer.prepare()
    plain.prepare(FloatCarrier())
    forms = (None, model.integer, plain)
    times: tuple[list[float], ...] = ([], [], [])
    for _ in range(rounds):
        for form, spent in zip(forms, times, strict=True):
            start = time.perf_counter()
            _decode(model, form, z, quality, lambda i, mean, _: torch.round(targets[i] - mean))
            spent.append(time.perf_counter() - start)
    return [median(t) for t in times]


def _code(
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

    y_hat = _decode(model, form, z, quality, code)
    return bits, y_hat


def _decode(
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


def main() -> None:
    """python -m stfcodec.bench.exactness PICTURES [--weights FILE] …: the figures of the docs."""
    import argparse
    from pathlib import Path

    from stfcodec.allocator import keep_freed_memory
    from stfcodec.imageio import read_picture
    from stfcodec.models import registry, store, weights

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", default=registry.DEFAULT_MODEL)
    parser.add_argument("--weights", type=Path, help="with an integer form")
    parser.add_argument(
        "--float", type=Path, help="compare with the entropy networks of these weights instead"
    )
    parser.add_argument("--qualities", type=float, nargs="+", default=[1.0, 2, 3, 4, 5, 6])
    parser.add_argument(
        "--gaussian", action="store_true", help="what fitted tables save against Gaussian ones"
    )
    parser.add_argument("--time", action="store_true", help="times only, on the first picture")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    keep_freed_memory()  # as coding does
    info = registry.by_name(options.model)
    path = options.weights or store.find(info, options.qualities[0])
    model = weights.load(info, path)
    if options.float:
        original = weights.load(info, options.float)
        for name in model.integer_replaces:
            model.get_submodule(name).load_state_dict(original.get_submodule(name).state_dict())
    pictures = [_whole_blocks(read_picture(p).pixels) for p in options.pictures]
    if options.time:
        _print_times(model, analyse(model, pictures[0], 3.0), options.rounds)
        return
    if options.gaussian:
        for quality, share in zip(
            options.qualities, saved(model, pictures, options.qualities), strict=True
        ):
            print(f"quality {quality:g}: {100 * share:+.2f} % bits")
        return
    found = curves(model, pictures, options.qualities)
    for quality, floating, integer in zip(options.qualities, *found, strict=True):
        print(
            f"quality {quality:g}: float {floating.bpp:.4f} bpp {floating.psnr:.3f} dB, "
            f"integer {integer.bpp:.4f} bpp {integer.psnr:.3f} dB"
        )
    print(f"{info.name}, {len(pictures)} pictures: {summary(*found)}")


def _print_times(model: CompressionModel, y: Tensor, rounds: int) -> None:
    floating, best, plain = seconds(model, y, 3.0, rounds)
    print(
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}: float "
        f"{1e3 * floating:.1f} ms; {type(best_carrier()).__name__} {1e3 * best:.1f} ms, ratio "
        f"{best / floating:.2f}; FloatCarrier {1e3 * plain:.1f} ms, ratio {plain / floating:.2f}"
    )


@torch.inference_mode()
def analyse(model: CompressionModel, pixels: np.ndarray, quality: float) -> Tensor:
    """y (1, M, H/16, W/16) of uint8 (H, W, 3), sides multiples of 64."""
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return model.analysis(x, quality)


def _whole_blocks(pixels: np.ndarray) -> np.ndarray:
    """Without what is beyond the last multiple of 64 pixels each way."""
    height, width = (n // 64 * 64 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


if __name__ == "__main__":
    main()
