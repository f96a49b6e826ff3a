"""stfcodec completion: what shells are told, in the shells that are here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Command, one_error
from test_imports import HEAVY, loaded_by

from stfcodec.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]

CASES = [
    ("", {"encode", "decode", "weights"}),
    ("en", {"encode"}),
    ("encode --st", {"--strip"}),
    ("encode --device ", {"auto", "cpu", "cuda"}),
    ("encode -m st", {"stf", "stf-lite"}),
    ("encode -m STF-", {"stf-lite"}),
    ("compare -m wacnn,stf-", {"wacnn,stf-lite"}),
    ("decode --format j", {"jpg", "jpeg"}),
    ("weights l", {"list"}),
    ("completion z", {"zsh"}),
]


def answers(monkeypatch: pytest.MonkeyPatch, stf: Command, line: str) -> list[list[str]]:
    """Kind, word and explanation of each possibility for the last word of a line."""
    words = ["stfcodec", *line.split(" ")]
    monkeypatch.setenv("_STFCODEC_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    outcome = stf()
    assert (outcome.code, outcome.err) == (0, "")
    return [line.split("\t") for line in outcome.out.decode().splitlines()]


@pytest.mark.parametrize(("line", "wanted"), CASES)
def test_possibilities(
    stf: Command, monkeypatch: pytest.MonkeyPatch, line: str, wanted: set[str]
) -> None:
    found = {word for kind, word, _ in answers(monkeypatch, stf, line) if kind == "plain"}
    assert wanted == found if line else wanted <= found


def test_commands_come_with_their_meaning(stf: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [answer[1:] for answer in answers(monkeypatch, stf, "")] == [
        [name, text] for name, text in COMMANDS.items()
    ]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("encode ", "file"),
        ("encode -o ", "file"),
        ("encode --weights ", "file"),
        ("compare ", "file"),
        ("decode ", "stream"),
        ("info ", "stream"),
        ("heatmap ", "stream"),
    ],
)
def test_kinds_of_files(
    stf: Command, monkeypatch: pytest.MonkeyPatch, line: str, kind: str
) -> None:
    assert [answer[0] for answer in answers(monkeypatch, stf, line)] == [kind]


def test_an_answer_loads_no_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_STFCODEC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "stfcodec encode --")
    monkeypatch.setenv("COMP_CWORD", "2")
    loaded = loaded_by("from stfcodec.cli.main import main; main([])")
    assert "stfcodec.cli.encode" in loaded
    assert not loaded & (HEAVY | {"stfcodec.cli.decode", "stfcodec.cli.train"})


def test_an_unknown_shell(stf: Command) -> None:
    one_error(stf("completion", "tcsh"), 2, "'tcsh' is not one of 'bash', 'zsh', 'fish'")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to complete in, with `stfcodec` on the search path."""
    work, programs = tmp_path / "work", tmp_path / "bin"
    (work / "sub").mkdir(parents=True)
    programs.mkdir()
    for name in ("my picture.stf", "a.png", "sub/only.png"):
        (work / name).touch()
    program = programs / "stfcodec"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stfcodec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return work


def shell(name: str, script: str, folder: Path) -> str:
    program = shutil.which(name)
    if program is None or os.name != "posix":
        pytest.skip(f"no {name} here")
    done = subprocess.run(
        [program, "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BASH = """
source <(stfcodec completion bash)
compopt() { echo "compopt $2"; }
try() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _stfcodec stfcodec
    printf '%s\\n' "${COMPREPLY[@]}"
}
"""


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("enc", ["encode"]),
        ("encode --model = stf-", ["stf-lite"]),
        ("encode ''", ["compopt default", ""]),
        ("decode ''", ["compopt filenames", "my picture.stf", "sub"]),
        ("decode '\"my'", ["compopt filenames", "my picture.stf"]),
        ("decode sub/", ["compopt default", ""]),
    ],
)
def test_bash(folder: Path, words: str, wanted: list[str]) -> None:
    assert shell("bash", f"{BASH}try stfcodec {words}", folder).splitlines() == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("stfcodec enc", "encode"),
        ("stfcodec encode --model=stf-", "--model=stf-lite"),
        ("stfcodec decode my", "my picture.stf"),
        ("stfcodec encode a", "a.png"),
    ],
)
def test_fish(folder: Path, line: str, wanted: str) -> None:
    script = f"stfcodec completion fish | source; complete -C '{line}'"
    (found,) = shell("fish", script, folder).splitlines()
    assert found.split("\t")[0] == wanted


def test_zsh_can_read_its_script(folder: Path) -> None:
    line = "stfcodec completion zsh > script; zsh -n script && echo read"
    assert shell("zsh", line, folder) == "read\n"
