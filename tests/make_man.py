"""Writes the manual pages anew: `python -m tests.make_man --write`.

man/ has a page for every command and subcommand. Names, usage, descriptions and options come from
the commands themselves, exit codes and environment variables from the tables of docs/guide.md.
"""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from stfcodec import __version__
from tests import make_cli

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "man"

EXAMPLES = {
    "stfcodec": [
        ("Code a picture, and make a picture of it again:", "stfcodec encode photo.png"),
        ("", "stfcodec decode photo.stf -o decoded.png"),
    ],
    "stfcodec encode": [
        ("Code a picture as photo.stf, better than by default:", "stfcodec encode photo.png -q 6"),
        ("Give it at most 50000 bytes:", "stfcodec encode photo.png -o small.stf --size 50k"),
        ("Code a folder, and go on later:", "stfcodec encode -r photos/ -o coded/ --skip-existing"),
        ("Code within a pipe:", "stfcodec encode - -o -"),
    ],
    "stfcodec decode": [
        ("Decode to another format:", "stfcodec decode photo.stf -o photo.webp"),
        ("Decode a folder to JPEG files:", "stfcodec decode -r coded/ -o decoded/ --format jpg"),
    ],
    "stfcodec info": [("Read the facts by a program:", "stfcodec info photo.stf --json")],
    "stfcodec compare": [
        ("Write a web page:", "stfcodec compare photo.png -o report.html"),
        ("Compare two models:", "stfcodec compare photo.png -m wacnn-lite,stf-lite -q 3"),
    ],
    "stfcodec heatmap": [
        ("Draw where the bits go:", "stfcodec heatmap photo.stf -o heat.png"),
        ("Compare two models:", "stfcodec heatmap photo.png --beside stf-lite -o heat.png"),
    ],
    "stfcodec weights": [
        ("Install the weights of a checkpoint:", "stfcodec weights import cnn_0067_best.pth.tar"),
        ("See what is here:", "stfcodec weights list"),
    ],
    "stfcodec desktop": [("See what would be written:", "stfcodec desktop install --dry-run")],
    "stfcodec thumbnail": [("", "stfcodec thumbnail --size 128 photo.stf small.png")],
    "stfcodec train": [
        ("Train for two hours:", "stfcodec train --data photographs/ --out run/ --minutes 120")
    ],
}
"""What each line does, and the line, by command."""

_OPTION = re.compile(r"(?<![\w/-])--?[a-z][a-z0-9-]*")


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    return {f"{_name(context)}.1": "\n".join(_page(context)) + "\n" for context in _contexts()}


def _contexts() -> Iterator[click.Context]:
    found = [make_cli.program()]
    while found:
        context = found.pop(0)
        yield context
        found[:0] = make_cli.subcontexts(context)


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(context: click.Context) -> Iterator[str]:
    name, help_text = _name(context), inspect.cleandoc(context.command.help or "")
    summary = " ".join(help_text.split("\n\n")[0].split()).rstrip(".")
    yield f'.TH {_escaped(name.upper())} 1 {_date()} "stfcodec {__version__}" "stfcodec manual"'
    yield ".SH NAME"
    yield f"{_escaped(name)} \\- {_escaped(summary[0].lower() + summary[1:])}"
    yield ".SH SYNOPSIS"
    yield f".B {context.command_path}"
    usage = " ".join(context.command.collect_usage_pieces(context))
    yield from _text(usage.replace("[COMMAND]", "COMMAND"))  # in brackets by newer click
    yield ".SH DESCRIPTION"
    yield from _description(help_text)
    commands = list(make_cli.subcontexts(context))
    if commands:
        yield ".SH COMMANDS"
    for below in commands:
        yield ".TP"
        yield f"\\fB{_escaped(_name(below))}\\fR(1)"
        yield from _text(inspect.cleandoc(below.command.help or "").split("\n\n")[0])
    yield ".SH OPTIONS"
    yield from _options(context)
    if examples := EXAMPLES.get(context.command_path):
        yield ".SH EXAMPLES"
        yield from _examples(examples)
    yield ".SH EXIT STATUS"
    yield from _table("Exit codes")
    yield ".SH ENVIRONMENT"
    yield from _table("Environment variables")
    yield ".SH SEE ALSO"
    others = [context.parent] if context.parent else commands
    yield ",\n".join(f"\\fB{_escaped(_name(other))}\\fR(1)" for other in others)


def _description(help_text: str) -> Iterator[str]:
    for number, paragraph in enumerate(help_text.split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):  # lines that stay as they are
            yield ".nf"
            yield from (_line(_escaped(line)) for line in paragraph.splitlines()[1:])
            yield ".fi"
        else:
            yield from _text(paragraph)


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record:
            yield ".TP"
            yield _escaped(_OPTION.sub(lambda found: f"\x01{found[0]}\x02", record[0]))
            yield from _text(record[1])


def _examples(examples: list[tuple[str, str]]) -> Iterator[str]:
    for number, (text, line) in enumerate(examples):
        if text and number:
            yield ".PP"
        yield from _text(text)
        yield from (".nf", ".RS 4", _escaped(line), ".RE", ".fi")


def _table(heading: str) -> Iterator[str]:
    """The rows of the table below a heading of the guide: a term, and what it means."""
    guide = (ROOT / "docs" / "guide.md").read_text("utf-8")
    section = guide.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    for term, meaning in re.findall(r"^\| (.+?) \| (.+) \|$", section, re.M)[1:]:
        yield ".TP"
        yield f"\\fB{_escaped(_plain(term))}\\fR"
        yield from _text(_plain(meaning))


def _plain(markdown: str) -> str:
    """Without marks, and without links in brackets, which lead to other pages."""
    markdown = re.sub(r" \(\[[^]]+\]\([^)]+\)\)", "", markdown)
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", markdown).replace("`", "")


def _date() -> str:
    """Of the last release: a page depends on nothing but the repository."""
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = re.search(r"^## \[\d.*?\] - (\d{4}-\d\d-\d\d)$", changes, re.M)
    assert found is not None
    return found[1]


def _text(text: str) -> Iterator[str]:
    """A paragraph, each sentence on lines of its own as roff likes it, options in bold."""
    for sentence in re.split(r"(?<=[a-z)\]][.:]) +(?=[A-Z])", " ".join(text.split())):
        marked = _OPTION.sub(lambda found: f"\x01{found[0]}\x02", sentence)
        for line in textwrap.wrap(marked, 72, break_long_words=False, break_on_hyphens=False):
            yield _line(_escaped(line))


def _escaped(text: str) -> str:
    """Text as roff reads it. \\x01 begins bold text, \\x02 ends it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return text.replace("\x01", "\\fB").replace("\x02", "\\fR")


def _line(text: str) -> str:
    """A line that is no request of roff."""
    return f"\\&{text}" if text.startswith((".", "'")) else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the pages in man/")
    if parser.parse_args().write:
        FOLDER.mkdir(exist_ok=True)
        for path in FOLDER.glob("*.1"):
            path.unlink()
        for name, text in pages().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
    else:
        print("\n".join(pages().values()), end="")


if __name__ == "__main__":
    main()
