"""Cost of the integer form of the entropy networks against the float networks: rate and time.

Also what CDF tables fitted to photographs save against those of Gaussians. The figures are in
docs/exactness.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click
import numpy as np

from benchmarks.options import (
    EXISTING_FILE,
    model_option,
    pictures_argument,
    qualities_option,
    rounds_option,
    weights_option,
)
from stfcodec.models.registry import WHOLE_QUALITIES

if TYPE_CHECKING:
    from torch import Tensor

    from stfcodec.models.base import CompressionModel

_TIMED_QUALITY = 3.0


@click.command()
@pictures_argument
@model_option
@weights_option
@click.option(
    "--float",
    "float_weights",
    type=EXISTING_FILE,
    help="Weights whose float networks to compare with.  [default: those of the integer form]",
)
@qualities_option(*WHOLE_QUALITIES)
@click.option("--gaussian", is_flag=True, help="Compare fitted tables with Gaussian ones instead.")
@click.option("--time", "times_only", is_flag=True, help="Measure times, on the first picture.")
@rounds_option(15)
def main(
    pictures: tuple[Path, ...],
    model: str,
    weights: Path | None,
    float_weights: Path | None,
    qualities: tuple[float, ...],
    gaussian: bool,
    times_only: bool,
    rounds: int,
) -> None:
    """Compare bits and PSNR of the integer and the float form on PICTURES.

    Pictures are cut to multiples of 64 pixels. Bits are those that the CDF tables count.
    """
    from stfcodec.allocator import keep_freed_memory
    from stfcodec.imageio import read_picture
    from stfcodec.models.integer_cost import analyse, curves, summary

    keep_freed_memory()  # as the commands do
    loaded = _load(model, weights, float_weights, qualities[0])
    images = [_whole_blocks(read_picture(path).pixels) for path in pictures]
    if times_only:
        _print_times(loaded, analyse(loaded, images[0], _TIMED_QUALITY), rounds)
        return
    if gaussian:
        savings = saved_bits(loaded, images, qualities)
        for quality, share in zip(qualities, savings, strict=True):
            click.echo(f"quality {quality:g}: {100 * share:+.2f} % bits")
        return
    found = curves(loaded, images, qualities)
    for quality, floating, integer in zip(qualities, *found, strict=True):
        click.echo(
            f"quality {quality:g}: float {floating.bpp:.4f} bpp {floating.psnr:.3f} dB, "
            f"integer {integer.bpp:.4f} bpp {integer.psnr:.3f} dB"
        )
    click.echo(f"{model}, {len(images)} pictures: {summary(*found)}")


def saved_bits(
    model: CompressionModel, pictures: Sequence[np.ndarray], qualities: Sequence[float]
) -> list[float]:
    """Relative change of bits by the tables of y against Gaussian ones, one number per quality.

    −0.01 is one per cent fewer. pictures: (H, W, 3) uint8, sides multiples of 64.
    """
    import torch

    from stfcodec.entropy.tables import gaussian_tables
    from stfcodec.models.integer_cost import analyse, count_bits
    from stfcodec.models.priors import scale_levels

    both = model.gaussian_conditional.tables, gaussian_tables(scale_levels().numpy())
    bits = np.zeros((2, len(qualities)))
    with torch.inference_mode():
        for pixels in pictures:
            for i, quality in enumerate(qualities):
                y = analyse(model, pixels, quality)
                bits[:, i] += count_bits(model, model.integer, y, quality, both)[0]
    return list(bits[0] / bits[1] - 1)


def median_times(
    model: CompressionModel, y: Tensor, quality: float, rounds: int
) -> tuple[float, float, float]:
    """Median seconds of the entropy networks without range coding, for y (1, M, h, w).

    Of the float form, of the integer form with the fastest backend here, and of the integer form
    with `FloatBackend`; they take turns. Raises ValueError if the model has no integer form.
    """
    import torch

    from stfcodec.models.integer_backends import FloatBackend
    from stfcodec.models.integer_cost import decode_with

    if model.integer is None:
        raise ValueError("the model has no integer form")
    # Two copies, because a form is prepared for one backend at a time.
    plain = model.new_integer()
    plain.load_state_dict(model.integer.state_dict())
    model.integer.prepare()
    plain.prepare(FloatBackend())
    times: tuple[list[float], ...] = ([], [], [])
    with torch.inference_mode():
        z, passes = model.symbols_and_passes(y, quality)
        for _ in range(rounds):
            for form, spent in zip((None, model.integer, plain), times, strict=True):
                start = time.perf_counter()
                decode_with(
                    model, form, z, quality, lambda i, mean, _: torch.round(passes[i] - mean)
                )
                spent.append(time.perf_counter() - start)
    floating, best, float_backend = (median(t) for t in times)
    return floating, best, float_backend


def _load(
    name: str, path: Path | None, float_path: Path | None, quality: float
) -> CompressionModel:
    """A model with its integer form; with the float networks of other weights if they are given."""
    from stfcodec.models import locate, registry, weights

    info = registry.by_name(name)
    model = weights.load(info, path or locate.find(info, quality))
    if float_path:
        original = weights.load(info, float_path)
        for network in model.integer_replaces:
            state = original.get_submodule(network).state_dict()
            model.get_submodule(network).load_state_dict(state)
    return model


def _print_times(model: CompressionModel, y: Tensor, rounds: int) -> None:
    import torch

    from stfcodec.models.integer_backends import best_backend

    floating, best, plain = median_times(model, y, _TIMED_QUALITY, rounds)
    click.echo(
        f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}: float "
        f"{1e3 * floating:.1f} ms; {type(best_backend()).__name__} {1e3 * best:.1f} ms, ratio "
        f"{best / floating:.2f}; FloatBackend {1e3 * plain:.1f} ms, ratio {plain / floating:.2f}"
    )


def _whole_blocks(pixels: np.ndarray) -> np.ndarray:
    """The upper left part whose sides are multiples of 64 pixels."""
    height, width = (n // 64 * 64 for n in pixels.shape[:2])
    return np.ascontiguousarray(pixels[:height, :width])


if __name__ == "__main__":
    main()
