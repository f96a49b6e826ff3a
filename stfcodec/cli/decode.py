"""stfcodec decode: .stf files to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stfcodec import batch
from stfcodec.cli import coding, paths
from stfcodec.errors import ImageError, UsageError
from stfcodec.formats import STREAM_SUFFIXES
from stfcodec.limits import Limits


@click.command("decode")
@coding.shared_options
@click.option(
    "--format",
    "extension",
    metavar="FORMAT",
    help="Output format: png, jpg, webp, ...  [default: the one -o names, else png]",
)
def command(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    extension: str | None,
    weights: Path | None,
    device: str,
    max_pixels: int,
    **running: Any,
) -> int:
    """Turn .stf files back into pictures.

    photo.stf becomes photo.png beside it, or what -o names. INPUT may be - for standard input,
    and with -r folders, whose hidden files are left out.
    """
    suffix = "." + (extension or "png").lower().lstrip(".")
    plan = paths.plan(
        inputs, output, recursive=recursive, suffixes=STREAM_SUFFIXES, target_suffix=suffix
    )
    target = plan.jobs[0].target  # all have one suffix: only a lone file can be named freely
    named = Path("picture" + suffix) if extension or target is None else target
    task = batch.Decode(_format(named), device, weights, Limits(pixels=max_pixels))
    return coding.run(plan, task, **running)


def _format(path: Path) -> str:
    """The Pillow format of an output, refused here rather than after decoding."""
    from stfcodec.imageio import output_format

    try:
        return output_format(path)
    except ImageError as error:
        raise UsageError(str(error)) from error
