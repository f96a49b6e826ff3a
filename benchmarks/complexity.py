"""Cost of the models: parameters, multiply-accumulates, seconds per network, training speed.

`--write` rewrites the tables of docs/models.md, `--shapes` prints those with shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from benchmarks import ROOT
from benchmarks.markdown import replace_block
from benchmarks.options import LITE_MODELS, MODEL_NAME
from benchmarks.timing import median_seconds
from stfcodec.models import registry

if TYPE_CHECKING:
    from torch import Tensor

    from stfcodec.models.base import CompressionModel


_PAGE = ROOT / "docs" / "models.md"

_ENTROPY = "h_s and context"
"""The name of the entropy networks in what is printed."""


@click.command()
@click.argument("models", type=MODEL_NAME, nargs=-1)
@click.option("--train/--no-train", default=True, show_default=True, help="Time training too.")
@click.option("--shapes", is_flag=True, help="Print the layers with their shapes; time nothing.")
@click.option("--write", is_flag=True, help="Rewrite the tables of docs/models.md; time nothing.")
def main(models: tuple[str, ...], train: bool, shapes: bool, write: bool) -> None:
    """Print the cost of MODELS for a picture of 768x512 on the CPU.

    Without MODELS, of the lite ones. kMAC/px are thousand multiply-accumulates per pixel, s/MP are
    seconds per megapixel; training is in megapixels per second.
    """
    if write:
        _write()
    elif shapes:
        _print_layers(models or LITE_MODELS)
    else:
        _print_times(models or LITE_MODELS, train)


def _write() -> None:
    from benchmarks.complexity_tables import blocks_of_the_page

    for mark, lines in blocks_of_the_page().items():
        replace_block(_PAGE, mark, lines)


def _print_layers(names: Sequence[str]) -> None:
    from benchmarks.complexity_tables import layers_table
    from benchmarks.layer_costs import measure

    for name in names:
        click.echo("\n".join([name, "", *layers_table([measure(registry.by_name(name))]), ""]))


def _print_times(names: Sequence[str], train: bool) -> None:
    import torch

    from benchmarks.layer_costs import ENTROPY_NETWORKS, HEIGHT, WIDTH, measure
    from stfcodec.allocator import keep_freed_memory
    from stfcodec.models.build import build

    keep_freed_memory()  # as the commands do
    x = torch.rand(1, 3, HEIGHT, WIDTH).contiguous(memory_format=torch.channels_last)
    for name in names:
        info = registry.by_name(name)
        costs = measure(info)
        model = build(info).eval().to(memory_format=torch.channels_last)
        click.echo(f"{name}: {info.parameters / 1e6:.2f} M parameters")
        for network, run in _networks(model, x).items():
            parts = ENTROPY_NETWORKS if network == _ENTROPY else (network,)
            seconds = _seconds(run) / x[0, 0].numel() * 1e6
            click.echo(f"  {network:<16} {costs.kmac(*parts):6.1f} kMAC/px  {seconds:.2f} s/MP")
        if train and info.variable_rate:
            click.echo(f"  {'training':<16} {_training_speed(model):.2f} MP/s")


def _networks(model: CompressionModel, x: Tensor) -> dict[str, Callable[[], object]]:
    """A call of each network by its name."""
    import torch

    with torch.inference_mode():
        y = model.analysis(x)
        z = model.hyper_analysis(y)
    return {
        "g_a": lambda: model.analysis(x),
        "h_a": lambda: model.hyper_analysis(y),
        _ENTROPY: lambda: model.decode_symbols(z, 3.0, lambda _, mean, level: mean),
        "g_s": lambda: model.synthesis(y),
    }


def _seconds(run: Callable[[], object]) -> float:
    import torch

    with torch.inference_mode():
        return median_seconds(run, 5)


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
