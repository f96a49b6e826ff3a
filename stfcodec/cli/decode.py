"""stfcodec decode: .stf files to pictures."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import click

from stfcodec import batch
from stfcodec.cli import coding, collections, commands, paths, urls, values
from stfcodec.cli.filelist import Inputs
from stfcodec.errors import ImageError, UsageError
from stfcodec.formats import DEEP, PICTURE_SUFFIXES, STREAM_SUFFIXES, WRITABLE
from stfcodec.limits import Limits
from stfcodec.storage import Location
from stfcodec.view import View

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
@click.option(
    "--scale",
    metavar="SCALE",
    default="1",
    help="Decode a smaller picture: 1/2, 1/4, 1/8 or 1/16 of the size.",
)
@click.option("--crop", metavar="X,Y,W,H", help="Decode a part: left, top, width and height.")
@click.option(
    "--depth",
    type=click.Choice(["8", "16"]),
    help="Bits a channel of the output.  [default: the source's, if the format holds them]",
)
@click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF, XMP and IPTC.")
@collections.options
def command(
    inputs: Inputs,
    output: str | None,
    recursive: bool,
    keep_suffix: bool,
    extension: str | None,
    background: str | None,
    scale: str,
    crop: str | None,
    depth: str | None,
    strip: bool,
    weights: Path | None,
    device: str,
    max_pixels: int,
    wanted: collections.Wanted,
    **running: Any,
) -> int:
    """Turn .stf files back into pictures.

    photo.stf becomes photo.png beside it, or what -o names. INPUT may be - for standard input,
    and with -r folders, whose hidden files are left out. A file that cannot be decoded does not
    stop the others.
    """
    suffix = "." + (extension or "png").lower().lstrip(".")
    naming = batch.Naming(STREAM_SUFFIXES, suffix, keep_suffix)
    is_collection = wanted.concern(inputs, output, recursive)
    plan: paths.Plan[Any]
    if is_collection:
        plan = paths.Plan([], single=False)
    elif urls.are_among(inputs.names, output):
        plan = urls.plan(inputs.names, output, naming)
    else:
        plan = paths.plan(
            inputs.names, output, naming, recursive=recursive, list_file=inputs.list_file
        )
    outputs = [job.output for job in plan.jobs if isinstance(job.output, Path | Location)]
    named: Path | Location = Path("picture" + suffix)
    if outputs and not extension:
        named = outputs[0]  # all have one suffix: only a lone file can be named freely
    if background is not None:
        _check_colour(background)
    view = View(_crop(crop), _scale(scale))
    format_name = _format(named)
    if depth == "16" and format_name not in DEEP:
        holding = ", ".join(DEEP)
        raise UsageError(f"{format_name} holds 8 bits a channel: for --depth 16 write {holding}")
    plan.warnings.extend(
        (path, paths.MISNAMED.format(format_name))
        for path in outputs
        if path.suffix.lower() in _KNOWN and WRITABLE.get(path.suffix.lower()) != format_name
    )
    limits = Limits(pixels=max_pixels)
    bits = int(depth) if depth else None
    task = batch.Decode(format_name, device, weights, limits, background, strip, view, bits)
    open_task = partial(coding.ready, task)
    if not is_collection:
        return coding.run(plan, open_task, **running)
    facts = {
        "command": "decode",
        "format": format_name,
        "background": background,
        "strip": strip,
        "crop": crop,
        "scale": scale,
        "depth": depth,
    }
    return collections.run(
        wanted, inputs, output, naming, open_task, facts, recursive=recursive, **running
    )


def _scale(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--scale {text}: choose 1/2, 1/4, 1/8 or 1/16") from None


def _crop(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        left, top, width, height = map(int, text.split(","))
    except ValueError:
        wanted = "give X,Y,WIDTH,HEIGHT in pixels, such as 0,0,512,512"
        raise UsageError(f"--crop {text}: {wanted}") from None
    return left, top, width, height


def _format(path: Path | Location) -> str:
    """The Pillow format of an output, refused here rather than after decoding."""
    from stfcodec.imageio import output_format

    try:
        return output_format(Path(path.name))
    except ImageError as error:
        raise UsageError(str(error)) from error


def _check_colour(text: str) -> None:
    """Raises UsageError here rather than after decoding."""
    from stfcodec.imageio import parse_colour

    parse_colour(text)
