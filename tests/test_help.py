"""The help of commands, its colours, and what the user reads after mistyping one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commands import Command, one_error
from test_reference_pages import every_command

from stfcodec.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[1]


def sections(text: str) -> dict[str, str]:
    """The parts of a help text by their headings."""
    pieces = re.split(r"^(\w[\w ]*):\n", text, flags=re.M)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def test_commands_stand_in_sections(stf: Command) -> None:
    found = sections(stf("--help").out.decode())
    assert "  encode " in found["Code pictures"]
    assert "  info " in found["Look into files"]
    assert "  weights " in found["Set up"]
    assert "Other commands" not in found
    listed = re.findall(r"^  ([a-z]+) ", "".join(found.values()), re.M)
    assert listed == list(COMMANDS), "the sections have the order of COMMANDS"


def test_many_options_stand_in_sections(stf: Command) -> None:
    found = sections(stf("encode", "--help").out.decode())
    assert "--output" in found["Files"]
    assert "--psnr" in found["Rate"]
    assert "--threads" in found["Running"]
    assert "--json" in found["Report"]
    assert list(sections(stf("info", "--help").out.decode())) == ["Options"]


def test_no_option_is_lost_in_sections(stf: Command) -> None:
    context = click.Context(cli, info_name="stfcodec", **cli.context_settings)
    for found in every_command(context):
        words = found.command_path.split()[1:]
        text = stf(*words, "--help").out.decode()
        for parameter in found.command.params:
            if isinstance(parameter, click.Option):
                assert text.count(f"{parameter.opts[-1]} ") >= 1, (words, parameter.opts)


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What the command prints on a terminal."""
    import pty

    reader, writer = pty.openpty()
    variables = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    variables |= {"PYTHONPATH": str(ROOT), "TERM": "xterm", **environment}
    command = [sys.executable, "-m", "stfcodec", *arguments]
    with subprocess.Popen(command, stdout=writer, stderr=writer, env=variables) as process:
        os.close(writer)
        text = b""
        try:
            while piece := os.read(reader, 1 << 16):
                text += piece
        except OSError:  # the end, on Linux
            pass
    os.close(reader)
    assert process.returncode == 0
    return text.decode()


@pytest.mark.skipif(os.name != "posix", reason="terminals as POSIX has them")
def test_colours_on_a_terminal_only(stf: Command) -> None:
    assert "\x1b[36mencode\x1b[0m" in on_a_terminal("--help")
    assert "\x1b[36m-o, --output OUT\x1b[0m" in on_a_terminal("encode", "--help")
    assert "\x1b" not in on_a_terminal("--help", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("--help", TERM="dumb")
    assert b"\x1b" not in stf("--help").out


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("encdoe", "Did you mean 'encode'?"),
        ("weights lst", "Did you mean 'list'?"),
        ("photo.JPG", "Did you mean 'stfcodec encode photo.JPG'?"),
        ("photo.stf", "Did you mean 'stfcodec decode photo.stf'?"),
        ("qqq", "No such command 'qqq'. See 'stfcodec --help'."),
        ("encode --forec a.png", "--force"),
        ("encode -psnr 35 a.png", "--psnr"),
        ("encode -quality=3 a.png", "--quality"),
        ("encode a.png -output b.stf", "--output"),
        ("-version", "--version"),
    ],
)
def test_what_was_mistyped(stf: Command, line: str, hint: str) -> None:
    one_error(stf(*line.split()), 2, hint)


def test_a_name_with_spaces_is_quoted(stf: Command) -> None:
    one_error(stf("my photo.png"), 2, "'stfcodec encode 'my photo.png''")


def test_what_is_no_long_option(stf: Command, picture: Path) -> None:
    """Flags that stand together, a value that sticks to its option, and names after `--`."""
    assert stf("encode", "-fq3", picture).code == 0
    one_error(stf("info", "--", "-json"), 1, "-json: cannot read")


def test_models_in_capitals(stf: Command, picture: Path) -> None:
    (record,) = stf("encode", picture, "-m", "WACNN-Lite", "--json").records
    assert record["model"] == "wacnn-lite"
    one_error(stf("encode", picture, "-m", "wacn"), 2, "unknown model 'wacn'", "wacnn-lite")


@pytest.mark.parametrize(
    ("text", "size"),
    [("2000", 2000), ("2k", 2000), ("2KB", 2000), ("1.5kB", 1500), ("2KiB", 2048), ("1M", 10**6)],
)
def test_sizes_with_units(text: str, size: int) -> None:
    from stfcodec.cli.values import ByteSize

    assert ByteSize().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["0", "-5", "k", "2q", "1.5.2k", "", "0.1"])
def test_what_is_no_size(stf: Command, picture: Path, text: str) -> None:
    one_error(stf("encode", picture, f"--size={text}"), 2, "--size", "no size of a file")
