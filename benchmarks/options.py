"""Command-line arguments and options that several benchmarks share, worded once.

Modules that import torch are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stfcodec.models import registry

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_PATH = click.Path(path_type=Path)
MODEL_NAME = click.Choice([info.name for info in registry.MODELS])
LITE_MODELS = tuple(info.name for info in registry.MODELS if info.variable_rate)

_QUALITY_RANGE = f"{registry.MIN_QUALITY:g}…{registry.MAX_QUALITY:g}"

picture_argument = click.argument("picture", type=EXISTING_FILE)
pictures_argument = click.argument("pictures", type=EXISTING_FILE, nargs=-1, required=True)
folder_argument = click.argument("folder", type=EXISTING_FOLDER)

model_option = click.option(
    "-m",
    "--model",
    type=MODEL_NAME,
    default=registry.DEFAULT_MODEL,
    show_default=True,
    help="Architecture.",
)
models_option = click.option(
    "-m",
    "--model",
    "models",
    type=MODEL_NAME,
    multiple=True,
    default=LITE_MODELS,
    show_default=True,
    help="Architecture; may be repeated.",
)
quality_option = click.option(
    "-q",
    "--quality",
    type=float,
    default=3.0,
    show_default=True,
    help=f"Quality, {_QUALITY_RANGE}.",
)
weights_option = click.option(
    "--weights", type=EXISTING_FILE, help="Weights file.  [default: the one that encode finds]"
)


def qualities_option(*default: float) -> Decorator:
    """`--quality`, which may be repeated."""
    return click.option(
        "-q",
        "--quality",
        "qualities",
        type=float,
        multiple=True,
        default=default,
        show_default=True,
        help=f"Quality, {_QUALITY_RANGE}; may be repeated.",
    )


def crop_option(default: int | None = None) -> Decorator:
    """`--crop`, the side of the square that is cut from the middle of each picture."""
    return click.option(
        "--crop",
        type=click.IntRange(min=1),
        metavar="PIXELS",
        default=default,
        show_default=default is not None,
        help="Side of the square that is cut from the middle of each picture.",
    )


def rounds_option(default: int) -> Decorator:
    """`--rounds`, how often each time is measured."""
    return click.option(
        "--rounds",
        type=click.IntRange(min=1),
        metavar="N",
        default=default,
        show_default=True,
        help="Runs of which the median time is taken.",
    )
