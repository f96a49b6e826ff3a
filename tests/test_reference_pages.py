"""docs/cli.md and docs/python.md say what the code says, and the examples of the pages run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import make_cli
import make_python
import pytest
from PIL import Image

import stfcodec
from stfcodec.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPH = ROOT / "docs" / "images" / "kodim23.png"
PAGES_WITH_PYTHON = ("README.md", "docs/python.md", "docs/plugins.md")


def test_the_command_line_is_as_described() -> None:
    text = "\n".join(make_cli.reference())
    block = f"<!-- {make_cli.MARK} -->\n{text}\n<!-- /{make_cli.MARK} -->"
    assert block in make_cli.PAGE.read_text("utf-8"), "run python -m tests.make_cli --write"


def test_the_python_api_is_as_described() -> None:
    text = "\n".join(make_python.reference())
    block = f"<!-- {make_python.MARK} -->\n{text}\n<!-- /{make_python.MARK} -->"
    assert block in make_python.PAGE.read_text("utf-8"), "run python -m tests.make_python --write"


def every_command(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from every_command(click.Context(command, info_name=name, parent=context))


def test_every_command_has_a_section_with_all_of_its_options() -> None:
    """Found in the commands by another way than the page is made."""
    page = make_cli.PAGE.read_text("utf-8")
    headings = re.findall(r"^##+ stfcodec ?(\w*)$", page, re.M)
    assert headings == ["", *COMMANDS]
    for context in every_command(make_cli.program()):
        section = re.split(rf"^##+ {context.command_path}\n", page, flags=re.M)[1]
        section = re.split(r"^##", section, flags=re.M)[0]
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{context.command_path} {parameter.opts[-1]} has no help"
                assert parameter.opts[-1] in section, f"{context.command_path} {parameter.opts[-1]}"


def test_every_public_name_and_argument_is_explained() -> None:
    page = make_python.PAGE.read_text("utf-8")
    for name in stfcodec.__all__:
        assert re.search(rf"^(### {name}|\| `{name}`.*|\* `{name}: .*`: .*)$", page, re.M), name
    explained = r"^\* `[^`]+`: .+$"
    for line in make_python.reference():
        if line.startswith("* "):
            assert re.match(explained, line), f"{line} has no docstring"


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON)
def test_examples_in_python_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the page, as one program, in a folder with a photograph."""
    with Image.open(PHOTOGRAPH) as photograph:
        photograph.crop((0, 0, 320, 256)).save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert isinstance(names["image"], Image.Image)
