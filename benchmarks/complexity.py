"""Cost of the models: parameters, multiply-accumulates, seconds per network, training speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from benchmarks.options import LITE_MODELS, MODEL_NAME
from benchmarks.timing import median_seconds
from stfcodec.models import registry

if TYPE_CHECKING:
    from torch import Tensor

    from stfcodec.models.base import CompressionModel


@click.command()
@click.argument("models", type=MODEL_NAME, nargs=-1)
@click.option("--train/--no-train", default=True, show_default=True, help="Time training too.")
def main(models: tuple[str, ...], train: bool) -> None:
    """Print the cost of MODELS for a picture of 768x512 on the CPU.

    Without MODELS, of the lite ones. kMAC/px are thousand multiply-accumulates per pixel, s/MP are
    seconds per megapixel; training is in megapixels per second.
    """
    import torch

    from stfcodec.allocator import keep_freed_memory
    from stfcodec.models.build import build

    keep_freed_memory()  # as the commands do
    x = torch.rand(1, 3, 512, 768).contiguous(memory_format=torch.channels_last)
    for name in models or LITE_MODELS:
        info = registry.by_name(name)
        model = build(info).eval().to(memory_format=torch.channels_last)
        click.echo(f"{name}: {info.parameters / 1e6:.2f} M parameters")
        for network, run in _networks(model, x).items():
            click.echo(f"  {network:<16} {_cost(run, x[0, 0].numel())}")
        if train and info.variable_rate:
            click.echo(f"  {'training':<16} {_training_speed(model):.2f} MP/s")


def _networks(model: CompressionModel, x: Tensor) -> dict[str, Callable[[], object]]:
    """A call of each network by its name."""
    import torch

    with torch.no_grad():  # FlopCounterMode does not count inference tensors
        y = model.analysis(x)
        z = model.hyper_analysis(y)
    return {
        "g_a": lambda: model.analysis(x),
        "h_a": lambda: model.hyper_analysis(y),
        "h_s and context": lambda: model.decode_symbols(z, 3.0, lambda _, mean, level: mean),
        "g_s": lambda: model.synthesis(y),
    }


def _cost(run: Callable[[], object], pixels: int) -> str:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    with torch.inference_mode():
        seconds = median_seconds(run, 5)
    kmac = counter.get_total_flops() / 2 / pixels / 1e3
    return f"{kmac:6.1f} kMAC/px  {seconds / pixels * 1e6:.2f} s/MP"


def _training_speed(model: CompressionModel) -> float:
    """Megapixels per second, forward and backward, of 4 crops of 256² with bfloat16 networks."""
    import torch

    from stfcodec.train.loss import rate_distortion

    model.train()
    model.precision = torch.bfloat16
    x = torch.rand(4, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    quality = torch.rand(4) * 5 + 1

    def train_once() -> None:
        rate_distortion(model(x, quality), x, quality).loss.mean().backward()
        model.zero_grad()

    train_once()
    return x[:, 0].numel() / 1e6 / median_seconds(train_once, 3)


if __name__ == "__main__":
    main()
