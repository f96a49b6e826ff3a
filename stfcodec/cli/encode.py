"""stfcodec encode: pictures to .stf files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stfcodec import batch
from stfcodec.cli import coding, paths
from stfcodec.errors import UsageError
from stfcodec.models import registry


@click.command("encode")
@coding.shared_options
@click.option(
    "-m",
    "--model",
    default=registry.DEFAULT_MODEL,
    show_default=True,
    metavar="MODEL",
    help="Network to code with; 'stfcodec models' lists them.",
)
@click.option(
    "-q",
    "--quality",
    type=float,
    metavar="Q",
    help=f"1 (smallest) to 6 (best), fractions too.  [default: {registry.DEFAULT_QUALITY:g}]",
)
@click.option(
    "--lambda",
    "lam",
    type=float,
    metavar="L",
    help="The quality as a rate-distortion weight, "
    f"{registry.LAMBDAS[0]:g} to {registry.LAMBDAS[-1]:g}; instead of -q.",
)
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(0, registry.MAX_EFFORT),
    default=0,
    show_default=True,
    metavar="N",
    help="Search N steps for a better file, each three times the work of a plain encode; "
    "3 is a good start, 20 about the most.",
)
@click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF and XMP.")
def command(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    model: str,
    quality: float | None,
    lam: float | None,
    effort: int,
    strip: bool,
    weights: Path | None,
    device: str,
    **settings: Any,
) -> int:
    """Code pictures as .stf files.

    photo.png becomes photo.stf beside it, or what -o names. INPUT may be - for standard input,
    and with -r folders, whose hidden files are left out.
    """
    checked = registry.check_quality(_quality(quality, lam), registry.by_name(model))
    task = batch.Encode(model, checked, device, weights, strip, effort)
    plan = paths.plan(
        inputs, output, recursive=recursive, suffixes=paths.PICTURES, target_suffix=".stf"
    )
    return coding.run(plan, task, **settings)


def _quality(quality: float | None, lam: float | None) -> float:
    if lam is None:
        return registry.DEFAULT_QUALITY if quality is None else quality
    if quality is not None:
        raise UsageError("-q and --lambda set the same thing; give one")
    return registry.quality_from_lambda(lam)
