"""stfcodec thumbnail: a small PNG file of an .stf file, as file managers ask for."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import click

from stfcodec import files
from stfcodec.cli import coding, commands, reading, values
from stfcodec.errors import UsageError
from stfcodec.limits import DEFAULT_LIMITS
from stfcodec.view import smallest_scale


@click.command("thumbnail", cls=commands.Command)
@click.argument("source", metavar="INPUT", shell_complete=values.complete_inputs)
@click.argument("output", metavar="OUTPUT", shell_complete=values.complete_files)
@click.option(
    "-s",
    "--size",
    type=click.IntRange(1, 4096),
    default=256,
    show_default=True,
    metavar="N",
    help="Longest side in pixels.",
)
def command(source: str, output: str, size: int) -> int:
    """Write a small PNG of an .stf file, for file managers.

    It fits into N x N pixels and is no larger than the picture. OUTPUT is replaced where it exists,
    as thumbnailers of desktops do. Metadata is left out, but for the ICC profile. INPUT and OUTPUT
    may be - for standard input and output.
    """
    coding.prepare(None)
    from stfcodec import api, imageio

    path = None if source in files.STANDARD_INPUT else Path(source)
    if path and files.identity(path) == files.identity(Path(output)):
        raise UsageError(f"{output} is the input; name another output")
    data = reading.read_bytes(path, DEFAULT_LIMITS)
    with reading.named(source):
        info = api.info(data)
        scale = smallest_scale(max(info.width, info.height) / size)
        picture = api.decode_picture(data, scale=scale)
    image = imageio.to_image(replace(picture, exif=None, xmp=None, iptc=None))
    image.thumbnail((size, size))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    if output in files.STANDARD_OUTPUT:
        files.write_standard_output(buffer.getvalue())
    else:
        files.write_bytes(Path(output), buffer.getvalue(), overwrite=True)
    return 0
