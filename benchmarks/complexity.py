"""What the models cost: parameters, multiply-accumulates, seconds, training throughput."""

from __future__ import annotations

from collections.abc import Callable

import click
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import median_seconds
from stfcodec.allocator import keep_freed_memory
from stfcodec.models import registry
from stfcodec.models.base import CompressionModel
from stfcodec.models.build import build
from stfcodec.train.loss import rate_distortion


@click.command()
@click.argument("names", nargs=-1)
@click.option("--train/--no-train", default=True, show_default=True, help="Time training too.")
def main(names: tuple[str, ...], train: bool) -> None:
    """Cost of models NAMES (default: the lite ones) on a 768x512 picture, on the CPU."""
    keep_freed_memory()  # as coding does
    x = torch.rand(1, 3, 512, 768).contiguous(memory_format=torch.channels_last)
    for name in names or [i.name for i in registry.MODELS if i.variable_rate]:
        info = registry.by_name(name)
        model = build(info).eval().to(memory_format=torch.channels_last)
        click.echo(f"{name}: {info.parameters / 1e6:.2f} M parameters")
        for step, run in _steps(model, x).items():
            click.echo(f"  {step:<16} {_cost(run, x[0, 0].numel())}")
        if train and info.variable_rate:
            click.echo(f"  {'training':<16} {_training_speed(model):.2f} MP/s")


def _steps(model: CompressionModel, x: Tensor) -> dict[str, Callable[[], object]]:
    with torch.no_grad():  # the counter needs tensors that remember
        y = model.analysis(x)
        z = model.hyper_analysis(y)
    return {
        "g_a": lambda: model.analysis(x),
        "h_a": lambda: model.hyper_analysis(y),
        "h_s and context": lambda: model.decode_symbols(z, 3.0, lambda _, mean, row: mean),
        "g_s": lambda: model.synthesis(y),
    }


def _cost(run: Callable[[], object], pixels: int) -> str:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    with torch.inference_mode():
        seconds = median_seconds(run, 5)
    kmac = counter.get_total_flops() / 2 / pixels / 1e3
    return f"{kmac:6.1f} kMAC/px  {seconds / pixels * 1e6:.2f} s/MP"


def _training_speed(model: CompressionModel) -> float:
    """Megapixels a second, forward and backward, 4 crops of 256², networks in bfloat16."""
    model.train()
    model.precision = torch.bfloat16
    x = torch.rand(4, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    quality = torch.rand(4) * 5 + 1

    def step() -> None:
        rate_distortion(model(x, quality), x, quality).loss.mean().backward()
        model.zero_grad()

    step()
    return x[:, 0].numel() / 1e6 / median_seconds(step, 3)


if __name__ == "__main__":
    main()
