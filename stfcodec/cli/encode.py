"""stfcodec encode: pictures to .stf files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stfcodec import __version__, batch
from stfcodec.cli import coding, commands, native_stderr, paths, rate
from stfcodec.formats import PICTURE_SUFFIXES, STREAM_SUFFIX
from stfcodec.limits import Limits
from stfcodec.models import releases
from stfcodec.settings import EncodeSettings


@click.command("encode", cls=commands.Command)
@coding.shared_options
@rate.options
@click.option("--verify", is_flag=True, help="Decode each file's symbols before it is written.")
@click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF, XMP and IPTC.")
def command(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    keep_suffix: bool,
    verify: bool,
    strip: bool,
    weights: Path | None,
    device: str,
    max_pixels: int,
    **running: Any,
) -> int:
    """Code pictures as .stf files.

    photo.png becomes photo.stf beside it, or what -o names. INPUT may be - for standard input,
    and with -r folders, whose hidden files are left out. A file that cannot be coded does not stop
    the others.
    """
    settings = EncodeSettings(
        **rate.settings(running),
        device=device,
        weights=weights,
        limits=Limits(pixels=max_pixels),
        verify=verify,
        strip=strip,
    )
    naming = paths.Naming(PICTURE_SUFFIXES, STREAM_SUFFIX, keep_suffix)
    plan = paths.plan(inputs, output, naming, recursive=recursive)
    note = None
    if weights is None and releases.is_preview(settings.model):
        note = f"preview weights: files may need stfcodec {__version__} to be decoded"
    with native_stderr.collector() as native:
        task = batch.Encode(settings, native.collect)
        return coding.run(plan, task, encodes=True, note=note, **running)
