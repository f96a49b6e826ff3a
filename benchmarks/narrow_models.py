"""WACNN and STF of the published structure narrower: `python -m benchmarks.narrow_models`.

The published widths need days of a GPU. What integers cost depends on the structure (slices,
supports, latent residual prediction) and on how training shapes the values, and both are the same
here. The program knows only the published widths, so these models exist for measurements alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.options import EXISTING_FOLDER
from stfcodec.models.registry import EntropyWidths, ModelInfo, StfWidths, WacnnWidths

_CONTEXT = (80, 64, 48, 32)

WACNN = ModelInfo(
    name="wacnn-narrow",
    id=3,
    family="wacnn",
    widths=WacnnWidths(
        channels=(64, 64, 64, 160),
        heads=8,
        units=3,
        entropy=EntropyWidths(
            slices=10,
            support=5,
            h_a=(160, 128, 112, 96, 80, 64),
            h_s=(64, 80, 96, 112, 128, 160),
            context=_CONTEXT,
        ),
    ),
    variable_rate=False,
    parameters=0,
)

STF = ModelInfo(
    name="stf-narrow",
    id=4,
    family="stf",
    widths=StfWidths(
        dims=(24, 48, 96, 192),
        depths=(2, 2, 6, 2),
        heads=(3, 6, 12, 24),
        mlp_ratio=4.0,
        end_width=24,
        entropy=EntropyWidths(
            slices=12,
            support=6,
            h_a=(192, 144, 120, 104, 88, 64),
            h_s=(64, 88, 104, 120, 144, 192),
            context=_CONTEXT,
        ),
    ),
    variable_rate=False,
    parameters=0,
)

MODELS = {info.name: info for info in (WACNN, STF)}


@click.command()
@click.argument("photographs", type=EXISTING_FOLDER)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("-m", "--model", type=click.Choice(list(MODELS)), required=True)
@click.option("--quality", type=click.IntRange(1, 6), required=True)
@click.option("--start", type=click.Path(exists=True, path_type=Path))
@click.option("--minutes", type=float, default=30.0, show_default=True)
@click.option("--rate", type=float, default=1e-3, show_default=True)
@click.option("--warmup", type=int, default=30, show_default=True)
@click.option("--decay", type=float, default=0.4, show_default=True)
@click.option("--optimiser", default="soap", show_default=True)
@click.option("--batch", type=int, default=8, show_default=True)
@click.option("--crop", type=int, default=128, show_default=True)
def main(photographs: Path, out: Path, model: str, start: Path | None, **options: Any) -> None:
    """Train a narrow model on PHOTOGRAPHS for one quality, on one CPU thread; OUT is as of
    `stfcodec train`."""
    import torch

    from stfcodec.allocator import keep_freed_memory
    from stfcodec.train.loop import run_training
    from stfcodec.train.settings import Settings
    from stfcodec.train.trainer import Trainer

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    crop = options["crop"]
    settings = Settings(model=model, data=str(photographs), decay_crop=crop, flat=0.0, **options)
    run_training(Trainer(settings, out, start, MODELS[model]), report=click.echo)


if __name__ == "__main__":
    main()
