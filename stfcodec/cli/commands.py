"""The classes of all commands: help in sections, with colours on a terminal, and hints after
mistyped commands and options."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from stfcodec.formats import PICTURE_SUFFIXES, STREAM_SUFFIXES

_SECTIONS = {
    "Files": "--output --recursive --filelist --null --force --skip-existing --keep-suffix "
    "--preserve --dry-run",
    "Rate": "--model --quality --lambda --size --bpp --psnr --effort",
    "Picture": "--format --depth --scale --crop --background --strip --beside --overlay",
    "Running": "--weights --device --threads --workers --max-pixels --verify",
    "Collections": "--manifest --resume --retry-failed --shards --shard-format --unpack "
    "--measure-psnr --ray --cpus-per-worker --gpus-per-worker",
    "Report": "--json --quiet",
}
"""Long options by the section of the help that they stand in."""

_REST = "Other options"
_FEW = 8
"""At most so many options of a command are listed without sections."""


class _Formatter(click.HelpFormatter):
    """Headings and names stand out. click takes colours away where the output is no terminal."""

    def write_heading(self, heading: str) -> None:
        super().write_heading(_styled(heading, bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().write_dl([(_styled(name, fg="cyan"), text) for name, text in rows], *args, **kwargs)


def _styled(text: str, **style: Any) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, **style)


class _Context(click.Context):
    formatter_class = _Formatter


class _Base(click.Command):
    """What commands and groups have in common."""

    context_class = _Context

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            self._refuse_single_dash(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_single_dash(self, ctx: click.Context, args: list[str]) -> None:
        """Raise NoSuchOption for -quality, which would be read as -q with the value "uality"."""
        names = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        for arg in takewhile(lambda arg: arg != "--", args):
            if not self.allow_interspersed_args and not arg.startswith("-"):
                break
            meant = "-" + arg.partition("=")[0]
            if not arg.startswith("--") and len(arg) > 2 and meant in names:
                raise click.NoSuchOption(arg, possibilities=[meant], ctx=ctx)


class Command(_Base):
    """A command that lists its options by what they are about, if there are many."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (*_SECTIONS, _REST)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record:
                sections[_section(parameter)].append(record)
        if sum(map(len, sections.values())) <= _FEW:
            super().format_options(ctx, formatter)
            return
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _section(parameter: click.Parameter) -> str:
    for title, names in _SECTIONS.items():
        if not set(names.split()).isdisjoint(parameter.opts):
            return title
    return _REST


class Group(_Base, click.Group):
    """A group that says which command a word might stand for."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        is_option = name.startswith("-")
        if not (is_option or ctx.resilient_parsing or self.get_command(ctx, name)):
            meant = self._meant(ctx, name)
            hint = f" Did you mean '{meant}'?" if meant else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, name: str) -> str | None:
        """The command that a file needs, or the one with the nearest name."""
        suffix = Path(name).suffix.lower()
        if ctx.parent is None and suffix in PICTURE_SUFFIXES | STREAM_SUFFIXES:
            command = "decode" if suffix in STREAM_SUFFIXES else "encode"
            return f"{ctx.command_path} {command} {shlex.quote(name)}"
        near = get_close_matches(name.lower(), self.list_commands(ctx), n=1)
        return near[0] if near else None
