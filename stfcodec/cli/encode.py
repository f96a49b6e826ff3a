"""stfcodec encode: pictures to .stf files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stfcodec import __version__, batch
from stfcodec.cli import coding, native_stderr, paths
from stfcodec.errors import UsageError
from stfcodec.formats import PICTURE_SUFFIXES, STREAM_SUFFIX
from stfcodec.limits import Limits
from stfcodec.models import registry, releases
from stfcodec.rate_control import Target
from stfcodec.settings import EncodeSettings


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
    "--size",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="The best quality whose file has at most so many bytes; instead of -q.",
)
@click.option("--bpp", type=float, metavar="B", help="The same for bits a pixel of the whole file.")
@click.option(
    "--psnr",
    type=float,
    metavar="DB",
    help="The lowest quality whose picture has at least this PSNR; instead of -q.",
)
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(0, registry.MAX_EFFORT),
    default=0,
    show_default=True,
    metavar="N",
    help="Refine the latents in N iterations, each three times the work of a plain encode: "
    "the first 3 save most of what can be saved.",
)
@click.option("--verify", is_flag=True, help="Decode each file's symbols before it is written.")
@click.option("--strip", is_flag=True, help="Leave out ICC profile, EXIF, XMP and IPTC.")
def command(
    inputs: tuple[str, ...],
    output: str | None,
    recursive: bool,
    keep_suffix: bool,
    model: str,
    quality: float | None,
    lam: float | None,
    size: int | None,
    bpp: float | None,
    psnr: float | None,
    effort: int,
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
    given = {"-q": quality, "--lambda": lam, "--size": size, "--bpp": bpp, "--psnr": psnr}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} set the same thing; give one")
    if lam is not None:
        quality = registry.quality_from_lambda(lam, registry.by_name(model))
    settings = EncodeSettings(
        model=model,
        quality=registry.DEFAULT_QUALITY if quality is None else quality,
        device=device,
        weights=weights,
        effort=effort,
        target=_target(size, bpp, psnr),
        limits=Limits(pixels=max_pixels),
        verify=verify,
        strip=strip,
    )
    naming = paths.Naming(PICTURE_SUFFIXES, STREAM_SUFFIX, keep_suffix)
    plan = paths.plan(inputs, output, naming, recursive=recursive)
    note = None
    if weights is None and releases.is_preview(model):
        note = f"preview weights: files may need stfcodec {__version__} to be decoded"
    with native_stderr.collector() as native:
        task = batch.Encode(settings, native.collect)
        return coding.run(plan, task, note=note, **running)


def _target(size: int | None, bpp: float | None, psnr: float | None) -> Target | None:
    if size is not None:
        return Target("size", size)
    if bpp is not None:
        return Target("bpp", bpp)
    return None if psnr is None else Target("psnr", psnr)
