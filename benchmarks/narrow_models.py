"""Narrow WACNN and STF of the published structure: `python -m benchmarks.narrow_models`.

The published widths need days of a GPU. What integers cost depends on the structure (slices,
supports, latent residual prediction) and on how training shapes the values, and both are the same
here. The program knows only the published widths, so these models exist for measurements alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.options import EXISTING_FOLDER
from stfcodec.models import registry
from stfcodec.models.registry import ModelInfo

_CONTEXT = (80, 64, 48, 32)


def _narrow(name: str, h_a: tuple[int, int, int, int, int, int], **widths: Any) -> ModelInfo:
    """The model called `name` with other channel counts. h_s mirrors h_a."""
    info = registry.by_name(name)
    assert not isinstance(info.widths, registry.LiteWidths)
    entropy = replace(info.widths.entropy, h_a=h_a, h_s=h_a[::-1], context=_CONTEXT)
    narrow: Any = replace(info.widths, entropy=entropy, **widths)
    return replace(info, name=f"{name}-narrow", widths=narrow, parameters=0)


WACNN = _narrow("wacnn", (160, 128, 112, 96, 80, 64), channels=(64, 64, 64, 160))
STF = _narrow("stf", (192, 144, 120, 104, 88, 64), dims=(24, 48, 96, 192), end_width=24)

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
    from stfcodec.train.loop import prepare_process, run_training
    from stfcodec.train.settings import Settings
    from stfcodec.train.trainer import Trainer

    prepare_process(threads=1)
    crop = options["crop"]
    settings = Settings(model=model, data=str(photographs), decay_crop=crop, flat=0.0, **options)
    run_training(Trainer(settings, out, start, MODELS[model]), report=click.echo)


if __name__ == "__main__":
    main()
