"""Cost of the integer form of the entropy networks against the float networks: rate and time.

Also what CDF tables fitted to photographs save against those of Gaussians. The figures are in
docs/exactness.md.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import click
import numpy as np

from benchmarks import narrow_models
from benchmarks.options import (
    EXISTING_FILE,
    EXISTING_FOLDER,
    model_option,
    pictures_argument,
    qualities_option,
    rounds_option,
    weights_option,
)
from stfcodec.models import registry
from stfcodec.models.registry import WHOLE_QUALITIES, ModelInfo

if TYPE_CHECKING:
    from torch import Tensor

    from stfcodec.models.base import CompressionModel
    from stfcodec.models.integer_cost import Point

_TIMED_QUALITY = 3.0


class Curves(NamedTuple):
    """Points of the float networks and of the integer form at the same qualities."""

    floating: list[Point]
    integer: list[Point]


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
@click.option(
    "--run",
    "runs",
    type=EXISTING_FOLDER,
    multiple=True,
    help="Folder of a training run for one quality: its last.pt against its weights file, in place "
    "of --model, --weights, --float and --quality; may be repeated.",
)
@qualities_option(*WHOLE_QUALITIES)
@click.option("--time", "times_only", is_flag=True, help="Measure times, on the first picture.")
@rounds_option(15)
def main(
    pictures: tuple[Path, ...],
    model: str,
    weights: Path | None,
    float_weights: Path | None,
    runs: tuple[Path, ...],
    qualities: tuple[float, ...],
    times_only: bool,
    rounds: int,
) -> None:
    """Compare bits and PSNR of the integer and the float form on PICTURES.

    Pictures are cut to multiples of 64 pixels. Bits are those that the CDF tables count: the tables
    of the weights file, and those of Gaussians.
    """
    from stfcodec.allocator import keep_freed_memory
    from stfcodec.imageio import read_picture
    from stfcodec.models.integer_cost import analyse

    keep_freed_memory()  # as the commands do
    images = [_whole_blocks(read_picture(path).pixels) for path in pictures]
    if runs:
        loaded = [_load_run(folder) for folder in runs]
    else:
        info = registry.by_name(model)
        loaded = [(_load(info, weights, float_weights, qualities[0]), qualities)]
    if times_only:
        network = loaded[0][0]
        _print_times(network, analyse(network, images[0], _TIMED_QUALITY), rounds)
        return
    fitted, gaussian = Curves([], []), Curves([], [])
    for network, of_network in loaded:
        for curves, added in zip(
            (fitted, gaussian), _compare(network, images, of_network), strict=True
        ):
            curves.floating.extend(added.floating)
            curves.integer.extend(added.integer)
    every_quality = [quality for _, of_network in loaded for quality in of_network]
    _print_curves(every_quality, fitted, gaussian)


def _compare(
    model: CompressionModel, images: list[np.ndarray], qualities: tuple[float, ...]
) -> tuple[Curves, Curves]:
    """By the tables of the weights file, and by Gaussian ones."""
    from stfcodec.entropy.tables import gaussian_tables
    from stfcodec.models.integer_cost import curves
    from stfcodec.models.priors import scale_levels

    gaussian = gaussian_tables(scale_levels().numpy())
    fitted = Curves(*curves(model, images, qualities))
    return fitted, Curves(*curves(model, images, qualities, gaussian))


def _print_curves(qualities: list[float], fitted: Curves, gaussian: Curves) -> None:
    from stfcodec.models.integer_cost import summary

    for quality, floating, integer, plain in zip(qualities, *fitted, gaussian.integer, strict=True):
        saved = 100 * (integer.bpp / plain.bpp - 1)
        click.echo(
            f"quality {quality:g}: float {floating.bpp:.4f} bpp {floating.psnr:.3f} dB, "
            f"integer {integer.bpp:.4f} bpp {integer.psnr:.3f} dB; "
            f"fitted tables against Gaussian ones {saved:+.2f} % bits"
        )
    click.echo(f"fitted tables: {summary(*fitted)}")
    click.echo(f"Gaussian tables: {summary(*gaussian)}")


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
    info: ModelInfo, path: Path | None, float_path: Path | None, quality: float
) -> CompressionModel:
    """A model with its integer form; with the float networks of other weights if they are given."""
    from stfcodec.models import locate, weights

    model = weights.load(info, path or locate.find(info, quality))
    if float_path:
        original = weights.load(info, float_path)
        for network in model.integer_replaces:
            state = original.get_submodule(network).state_dict()
            model.get_submodule(network).load_state_dict(state)
    return model


def _load_run(folder: Path) -> tuple[CompressionModel, tuple[float, ...]]:
    """The weights of a run with the float networks of its checkpoint, and the run's quality."""
    from stfcodec.models import locate
    from stfcodec.train.checkpoint import CHECKPOINT
    from stfcodec.train.export import TRAINING_RECORD

    settings = json.loads((folder / TRAINING_RECORD).read_text(encoding="utf-8"))["settings"]
    name, quality = settings["model"], settings["quality"]
    info = narrow_models.MODELS.get(name) or registry.by_name(name)
    path = folder / locate.file_name(info, quality)
    return _load(info, path, folder / CHECKPOINT, quality), (quality,)


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
