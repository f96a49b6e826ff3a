"""stfcodec decode: .stf files to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stfcodec import batch
from stfcodec.cli import coding, commands, paths, values
from stfcodec.errors import ImageError, UsageError
from stfcodec.formats import PICTURE_SUFFIXES, STREAM_SUFFIXES, WRITABLE
from stfcodec.limits import Limits

_KNOWN = PICTURE_SUFFIXES | STREAM_SUFFIXES
"""Suffixes that say what a file holds."""


@click.command("decode", cls=commands.Command)
@coding.shared_options
@click.option(
    "--format",
    "extension",
    metavar="FORMAT",
    shell_complete=values.complete_formats,
    help="Output format: png, jpg, webp, ...  [default: the one -o names, else png]",
)
@click.option(
    "--background",
    metavar="COLOUR",
    help="Put transparent pictures on this colour: a CSS name, #rgb or #rrggbb.",
)
@click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF, XMP and IPTC.")
def command(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    keep_suffix: bool,
    extension: str | None,
    background: str | None,
    strip: bool,
    weights: Path | None,
    device: str,
    max_pixels: int,
    **running: Any,
) -> int:
    """Turn .stf files back into pictures.

    photo.stf becomes photo.png beside it, or what -o names. INPUT may be - for standard input,
    and with -r folders, whose hidden files are left out. A file that cannot be decoded does not
    stop the others.
    """
    suffix = "." + (extension or "png").lower().lstrip(".")
    naming = paths.Naming(STREAM_SUFFIXES, suffix, keep_suffix)
    plan = paths.plan(inputs, output, naming, recursive=recursive)
    named = Path("picture" + suffix)
    if plan.jobs and plan.jobs[0].output and not extension:
        named = plan.jobs[0].output  # all have one suffix: only a lone file can be named freely
    if background is not None:
        _check_colour(background)
    format_name = _format(named)
    outputs = [job.output for job in plan.jobs if job.output]
    plan.warnings.extend(
        (path, paths.MISNAMED.format(format_name))
        for path in outputs
        if path.suffix.lower() in _KNOWN and WRITABLE.get(path.suffix.lower()) != format_name
    )
    limits = Limits(pixels=max_pixels)
    task = batch.Decode(format_name, device, weights, limits, background, strip)
    return coding.run(plan, task, **running)


def _format(path: Path) -> str:
    """The Pillow format of an output, refused here rather than after decoding."""
    from stfcodec.imageio import output_format

    try:
        return output_format(path)
    except ImageError as error:
        raise UsageError(str(error)) from error


def _check_colour(text: str) -> None:
    """Raises UsageError here rather than after decoding."""
    from stfcodec.imageio import parse_colour

    parse_colour(text)
