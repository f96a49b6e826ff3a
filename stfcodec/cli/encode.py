"""stfcodec encode: pictures to .stf files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from stfcodec import __version__, batch
from stfcodec.cli import coding, collections, commands, native_stderr, paths, rate, urls
from stfcodec.cli.filelist import Inputs
from stfcodec.errors import UsageError
from stfcodec.formats import PICTURE_SUFFIXES, STREAM_SUFFIX
from stfcodec.limits import Limits
from stfcodec.models import locate, releases
from stfcodec.settings import EncodeSettings


@click.command("encode", cls=commands.Command)
@coding.shared_options
@rate.options
@click.option("--verify", is_flag=True, help="Decode each file's symbols before it is written.")
@click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF, XMP and IPTC.")
@collections.options
@click.option("--measure-psnr", is_flag=True, help="Decode each file, and record its PSNR.")
def command(
    inputs: Inputs,
    output: str | None,
    recursive: bool,
    keep_suffix: bool,
    verify: bool,
    strip: bool,
    weights: Path | None,
    device: str,
    max_pixels: int,
    wanted: collections.Wanted,
    measure_psnr: bool,
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
    if weights is None:
        locate.find(settings.model_info, settings.quality)  # refused before torch is loaded
    naming = batch.Naming(PICTURE_SUFFIXES, STREAM_SUFFIX, keep_suffix)
    note = None
    if weights is None and releases.is_preview(settings.model):
        note = f"preview weights: files may need stfcodec {__version__} to be decoded"
    open_task = partial(_open_task, settings, measure_psnr)
    running |= {"encodes": True, "note": note}
    if wanted.concern(inputs, output, recursive):
        return collections.run(
            wanted,
            inputs,
            output,
            naming,
            open_task,
            _facts(settings),
            recursive=recursive,
            **running,
        )
    if measure_psnr:
        raise UsageError("--measure-psnr is for a manifest, where it is recorded: give --manifest")
    if urls.are_among(inputs.names, output):
        return coding.run(urls.plan(inputs.names, output, naming), open_task, **running)
    plan = paths.plan(inputs.names, output, naming, recursive=recursive, list_file=inputs.list_file)
    return coding.run(plan, open_task, **running)


@contextmanager
def _open_task(settings: EncodeSettings, measures: bool) -> Iterator[batch.Task]:
    with native_stderr.collector() as native:
        yield batch.Encode(settings, native.collect, measures)


def _facts(settings: EncodeSettings) -> dict[str, Any]:
    """What decides the content of streams, as plain data."""
    return {
        "command": "encode",
        "model": settings.model,
        "quality": settings.quality,
        "target": settings.target and str(settings.target),
        "effort": settings.effort,
        "strip": settings.strip,
        "weights": settings.weights and str(settings.weights),
    }
