"""Values of options and arguments: how they are read, and what a shell offers for them."""

from __future__ import annotations

import re
from typing import Any

import click
from click.shell_completion import CompletionItem

from stfcodec.formats import WRITABLE
from stfcodec.models import locate, registry

STREAMS = "stream"
"""The type of a CompletionItem for which shells offer .stf files first."""

_READ_STREAMS = ("decode", "heatmap", "info", "test", "thumbnail")
"""Commands that take .stf files."""

_BYTES = re.compile(r"(\d+(?:\.\d+)?) ?(?:([kmg])(i?))?b?", re.IGNORECASE)


class ModelName(click.ParamType):  # type: ignore[type-arg]
    """The name of a model, in small letters or capitals. Raises UsageError for an unknown one."""

    name = "model"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return registry.by_name(value.lower()).name

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        return [
            CompletionItem(info.name, help=f"{info.parameters / 1e6:.1f} M parameters")
            for info in registry.MODELS
            if info.name.startswith(incomplete.lower())
        ]


class ByteSize(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes: 50000, 50k or 50kB, 1.5M, 48KiB."""

    name = "bytes"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        found = _BYTES.fullmatch(str(value).strip())
        size = 0
        if found:
            power = " kmg".index((found[2] or " ").lower())
            size = int(float(found[1]) * (1024 if found[3] else 1000) ** power)
        if size < 1:
            self.fail(f"{value!r} is no size of a file, such as 50000, 50k, 1.5M or 48KiB.", param)
        return size


def complete_inputs(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Names of files; .stf files first, where the command takes them."""
    kind = STREAMS if ctx.command.name in _READ_STREAMS else "file"
    return [CompletionItem(incomplete, type=kind)]


def complete_files(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Names of files."""
    return [CompletionItem(incomplete, type="file")]


def complete_formats(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Formats of pictures that are written."""
    names = (suffix.removeprefix(".") for suffix in WRITABLE)
    return [CompletionItem(name) for name in names if name.startswith(incomplete.lower())]


def complete_weights(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Fingerprints of the weights that are here."""
    return [
        CompletionItem(file.fingerprint, help=file.path.name)
        for file in locate.files()
        if file.fingerprint and file.fingerprint.startswith(incomplete.lower())
    ]


def complete_models(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[Any]]:
    """Names of models in a list with commas between them."""
    before, comma, last = incomplete.rpartition(",")
    found = ModelName().shell_complete(ctx, param, last)
    return [CompletionItem(before + comma + item.value, help=item.help) for item in found]
