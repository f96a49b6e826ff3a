"""The options that say how a picture is encoded: the model, and how many bits it may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from stfcodec.cli import values
from stfcodec.errors import UsageError
from stfcodec.models import registry
from stfcodec.rate_control import Target

_OPTIONS = (
    click.option(
        "-m",
        "--model",
        type=values.ModelName(),
        default=registry.DEFAULT_MODEL,
        show_default=True,
        metavar="MODEL",
        help="Network to code with; 'stfcodec models' lists them.",
    ),
    click.option(
        "-q",
        "--quality",
        type=float,
        metavar="Q",
        help=f"1 (smallest) to 6 (best), fractions too.  [default: {registry.DEFAULT_QUALITY:g}]",
    ),
    click.option(
        "--lambda",
        "lam",
        type=float,
        metavar="L",
        help="The quality as a rate-distortion weight, "
        f"{registry.LAMBDAS[0]:g} to {registry.LAMBDAS[-1]:g}; instead of -q.",
    ),
    click.option(
        "--size",
        type=values.ByteSize(),
        metavar="BYTES",
        help="The best quality whose file has at most so many bytes, such as 50k, 1.5M (thousands, "
        "millions) or 48KiB; instead of -q.",
    ),
    click.option(
        "--bpp", type=float, metavar="B", help="The same for bits a pixel of the whole file."
    ),
    click.option(
        "--psnr",
        type=float,
        metavar="DB",
        help="The lowest quality whose picture has at least this PSNR; instead of -q.",
    ),
    click.option(
        "-e",
        "--effort",
        type=click.IntRange(0, registry.MAX_EFFORT),
        default=0,
        show_default=True,
        metavar="N",
        help="Refine the latents in N iterations, each three times the work of a plain encode: "
        "the first 3 save most of what can be saved.",
    ),
)

_NAMES = ("model", "quality", "lam", "size", "bpp", "psnr", "effort")


def options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """The fields of `EncodeSettings` that the options stand for. They are taken out of a command's
    parameters.

    Raises UsageError where two of them set the same thing.
    """
    model, quality, lam, size, bpp, psnr, effort = (parameters.pop(name) for name in _NAMES)
    given = {"-q": quality, "--lambda": lam, "--size": size, "--bpp": bpp, "--psnr": psnr}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} set the same thing; give one")
    if lam is not None:
        quality = registry.quality_from_lambda(lam, registry.by_name(model))
    return {
        "model": model,
        "quality": registry.DEFAULT_QUALITY if quality is None else quality,
        "target": _target(size, bpp, psnr),
        "effort": effort,
    }


def given(context: click.Context) -> list[str]:
    """Those of the options that stand on the command line, as a user writes them."""
    return [
        option.opts[0]
        for option in context.command.params
        if option.name in _NAMES
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]


def _target(size: int | None, bpp: float | None, psnr: float | None) -> Target | None:
    if size is not None:
        return Target("size", size)
    if bpp is not None:
        return Target("bpp", bpp)
    return None if psnr is None else Target("psnr", psnr)
