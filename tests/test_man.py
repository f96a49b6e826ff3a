"""man/ says what the commands say, its examples make sense, and roff reads it without complaint."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import click
import make_man
import pytest
from test_reference_pages import every_command

from stfcodec.cli.main import cli
from tests import make_cli

PAGES = sorted(make_man.FOLDER.glob("*.1"))


def test_pages_are_as_the_commands() -> None:
    written = {path.name: path.read_text("utf-8") for path in PAGES}
    assert written == make_man.pages(), "run python -m tests.make_man --write"


def test_every_command_has_a_page_with_all_of_its_options() -> None:
    names = set()
    for context in every_command(make_cli.program()):
        name = context.command_path.replace(" ", "-")
        names.add(f"{name}.1")
        page = (make_man.FOLDER / f"{name}.1").read_text("utf-8").replace("\\-", "-")
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                assert f"\\fB{parameter.opts[-1]}\\fR" in page, (name, parameter.opts)
        for heading in ("EXIT STATUS", "ENVIRONMENT", "SEE ALSO"):
            assert f"\n.SH {heading}\n" in page
        for other in re.findall(r"\\fB(stfcodec[a-z-]*)\\fR\(1\)", page):
            assert (make_man.FOLDER / f"{other}.1").exists(), other
    assert names == {path.name for path in PAGES}


@pytest.mark.parametrize(
    ("path", "line"),
    [(path, line) for path, lines in make_man.EXAMPLES.items() for _, line in lines],
)
def test_examples_make_sense(path: str, line: str) -> None:
    """Each is of the command on whose page it stands, which takes its options."""
    assert line.startswith(path)
    context, command, words = make_cli.program(), cli, shlex.split(line)[1:]
    found: click.Command = command
    while isinstance(found, click.Group):
        name, below, words = found.resolve_command(context, words)
        assert below is not None
        context, found = click.Context(below, info_name=name, parent=context), below
    found.make_context(context.info_name, words, parent=context.parent)


@pytest.mark.parametrize("command", ["groff -man -Tutf8 -k -ww -z", "mandoc -T lint -W warning"])
def test_roff_has_no_complaint(command: str) -> None:
    program, *options = command.split()
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")
    done = subprocess.run(
        [program, *options, *map(str, PAGES)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
