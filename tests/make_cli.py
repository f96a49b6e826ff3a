"""Writes the reference of the command line anew: `python -m tests.make_cli --write`.

docs/cli.md has a section for every command and subcommand, in the order of `stfcodec --help`. All
of it comes from the commands themselves.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks.markdown import paragraph, replace_block, table
from stfcodec.cli.main import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
MARK = "commands"

_CODE = re.compile(r"(`[^`]+`)|'(stfcodec[^']*)'|(?<![\w/-])(--?[a-z][a-z0-9-]*)")
"""What stands in a fixed-width font: marked as such, a quoted command, an option."""
_EXTRA = re.compile(r"\s*\[([^][]*)\]$")
"""What click and the texts of options put at their end: `[default: 3]`, `[x>=1]`."""


def reference() -> Iterator[str]:
    """The lines of the page below its introduction."""
    yield from _section(program(), 2)


def program() -> click.Context:
    """The context of the program itself, as running it makes one.

    With other settings commands would keep another option for help, which click makes only once.
    """
    return click.Context(cli, info_name="stfcodec", **cli.context_settings)


def _section(context: click.Context, level: int) -> Iterator[str]:
    """The section of a command, then those of its subcommands: commands stand beside the program's
    own section, their subcommands one level below them."""
    command = context.command
    yield f"{'#' * level} {context.command_path}"
    yield ""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"    {usage.replace('[COMMAND]', 'COMMAND')}"  # in brackets by newer versions of click
    for text in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ""
        if text.startswith("\b"):  # lines that stay as they are
            yield from (f"    {line}".rstrip() for line in text.splitlines()[1:])
        else:
            yield from paragraph(_markdown(" ".join(text.split())))
    if options := list(_options(context)):
        yield ""
        yield from table(("option", "default", "meaning"), options)
    if command.epilog:
        yield ""
        yield from paragraph(_markdown(command.epilog))
    for subcontext in subcontexts(context):
        yield ""
        yield from _section(subcontext, level + 1 if context.parent else level)


def subcontexts(context: click.Context) -> Iterator[click.Context]:
    """The contexts of a group's commands, in the order of its help."""
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield click.Context(found, info_name=name, parent=context)


def _options(context: click.Context) -> Iterator[tuple[str, str, str]]:
    """Names with the metavar, default and meaning of each option but --help."""
    for parameter in context.command.params:
        record = parameter.get_help_record(context)
        if not isinstance(parameter, click.Option) or record is None:
            continue
        names, text = record
        default = ""
        extras: list[str] = []
        while found := _EXTRA.search(text):
            text = text[: found.start()]
            extras[:0] = found[1].split("; ")
        for extra in extras:
            if extra == "required" or extra.startswith("default: "):
                default = extra.removeprefix("default: ")
            else:
                text = f"{text} `{extra}`".lstrip()
        yield _cell(f"`{names}`"), _cell(_markdown(default)), _cell(_markdown(text))


def _markdown(text: str) -> str:
    """Commands and options as code, and no character that Markdown would act on."""

    def mark(found: re.Match[str]) -> str:
        return found[1] or f"`{found[2] or found[3]}`"

    pieces = re.split(r"(`[^`]+`)", _CODE.sub(mark, text))
    return "".join(p if p.startswith("`") else re.sub(r"([*<])", r"\\\1", p) for p in pieces)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the sections of the page")
    lines = list(reference())
    if parser.parse_args().write:
        replace_block(PAGE, MARK, lines)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
