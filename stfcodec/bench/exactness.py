"""What the integer form of the entropy networks costs: bits, and time, against the float one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stfcodec.entropy.tables import CdfTables
from stfcodec.models.entropy_model import CompressionModel
from stfcodec.models.integer import NETWORKS, IntegerEntropy


class Rates(NamedTuple):
    """Bits of one picture's symbols, z and y together, as its CDF tables count them."""

    floating: float
    integer: float


@torch.inference_mode()
def rates(model: CompressionModel, y: Tensor, quality: float) -> Rates:
    """Codes y (1, M, h, w) with both forms of the same weights, and counts."""
    if model.integer is None:
        raise ValueError("the model has no integer form")
    z, targets = _latents(model, y, quality)
    bits: list[float] = []

    def code(i: int, mean: Tensor, index: Tensor) -> Tensor:
        symbols = torch.round(targets[i] - mean)
        bits[-1] += _bits(model.gaussian_conditional.tables, symbols, index)
        return symbols

    channels = torch.arange(z.shape[1])[:, None, None].expand(z.shape)
    z_bits = _bits(model.entropy_bottleneck.tables, z, channels)
    for form in (None, model.integer):
        bits.append(z_bits)
        _slices(model, form, z, code)
    return Rates(*bits)


@torch.inference_mode()
def seconds(model: CompressionModel, y: Tensor, quality: float, rounds: int = 15) -> Rates:
    """Median time of the networks alone (no range coding) in each form, taken in turns."""
    z, targets = _latents(model, y, quality)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for form, spent in zip((None, model.integer), times, strict=True):
            start = time.perf_counter()
            _slices(model, form, z, lambda i, mean, index: torch.round(targets[i] - mean))
            spent.append(time.perf_counter() - start)
    return Rates(*(statistics.median(t) for t in times))


def _latents(model: CompressionModel, y: Tensor, quality: float) -> tuple[Tensor, Sequence[Tensor]]:
    """Symbols of z, and y's slices after the gain."""
    if model.gain is not None:
        y = y * model.gain(torch.tensor([quality]))[0]
    z = torch.round(model.h_a(y) - model.entropy_bottleneck.medians())
    return z, y.chunk(model.slices, 1)


def _slices(
    model: CompressionModel,
    form: IntegerEntropy | None,
    z: Tensor,
    code: Callable[[int, Tensor, Tensor], Tensor],
) -> None:
    """The slice loop with one form or the other, whatever the model has attached."""
    attached = model.integer
    try:
        model.integer = form
        model._decode_symbols(z, code)
    finally:
        model.integer = attached


def _bits(tables: CdfTables, symbols: Tensor, index: Tensor) -> float:
    s = symbols.to(torch.int32).numpy().ravel()
    t = index.numpy().ravel()
    value, escape = s - tables.offset[t], tables.length[t] - 2
    outside = (value < 0) | (value >= escape)
    share = np.where(outside, escape, value)
    # A symbol from outside its table takes some groups of four bits besides.
    excess = np.where(value < 0, -value, value - escape + 1)[outside]
    groups = 1 + np.ceil(np.log2(2 * excess + 1) / 4)
    return float(tables.bits[tables.starts[t] + share].sum(dtype=np.float64) + 4 * groups.sum())


def main() -> None:
    """python -m stfcodec.bench.exactness PICTURES [--weights FILE] …: the figures of the docs."""
    import argparse
    from pathlib import Path

    from stfcodec.imageio import read_picture
    from stfcodec.models import registry, store, weights

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", default=registry.DEFAULT_MODEL)
    parser.add_argument("--weights", type=Path, help="with an integer form")
    parser.add_argument("--float", type=Path, help="compare with these float weights instead")
    parser.add_argument("--qualities", type=float, nargs="+", default=[1.0, 3.0, 5.0])
    parser.add_argument("--size", type=int, default=256, help="side of the crop from the middle")
    options = parser.parse_args()
    info = registry.by_name(options.model)
    path = options.weights or store.find(info, options.qualities[0])
    model = weights.load(info, path)
    if options.float:
        original = weights.load(info, options.float)
        for name in NETWORKS:
            model.get_submodule(name).load_state_dict(original.get_submodule(name).state_dict())
    crops = [_middle(read_picture(p).pixels, options.size) for p in options.pictures]
    with torch.inference_mode():
        latents = [model.analysis(x) for x in crops]
    for quality in options.qualities:
        found = [rates(model, y, quality) for y in latents]
        floating, integer = (sum(column) for column in zip(*found, strict=True))
        print(
            f"quality {quality:g}: float {floating:.0f} bits, integer {integer:.0f}, "
            f"{100 * (integer / floating - 1):+.3f} %"
        )
    spent = seconds(model, torch.cat(latents[:4], 3), options.qualities[0])
    print(
        f"time: float {1e3 * spent.floating:.1f} ms, integer {1e3 * spent.integer:.1f} ms, "
        f"ratio {spent.integer / spent.floating:.2f}"
    )


def _middle(pixels: np.ndarray, size: int) -> Tensor:
    top, left = ((n - size) // 2 for n in pixels.shape[:2])
    crop = np.ascontiguousarray(pixels[top : top + size, left : left + size])
    return torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 255


if __name__ == "__main__":
    main()
