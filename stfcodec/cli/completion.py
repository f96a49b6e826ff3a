"""stfcodec completion: scripts by which shells complete commands, options and their values.

A script runs the program with `_STFCODEC_COMPLETE` set, and takes a line for each possibility: its
kind (plain, dir, file, stream), the word and an explanation, with tabs between them.
"""

from __future__ import annotations

from importlib import resources

import click
from click import shell_completion

from stfcodec.cli import commands, messages

VARIABLE = "_STFCODEC_COMPLETE"

_SHELLS = ("bash", "zsh", "fish")
_SCRIPTS = resources.files("stfcodec.cli") / "shells"


class _Lines(shell_completion.ShellComplete):
    """Writes what all three scripts read."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """bash makes `--model=stf` three words, of which click expects two."""
        args, incomplete = super().get_completion_args()
        return [arg for arg in args if arg != "="], incomplete

    def format_completion(self, item: shell_completion.CompletionItem[str]) -> str:
        explanation = " ".join((item.help or "").split())
        return f"{item.type}\t{item.value}\t{explanation}"


class _Bash(_Lines, shell_completion.BashComplete):
    pass


class _Zsh(_Lines, shell_completion.ZshComplete):
    pass


class _Fish(_Lines, shell_completion.FishComplete):
    pass


def register() -> None:
    """Have click answer the scripts of this module rather than its own."""
    for kind in (_Bash, _Zsh, _Fish):
        shell_completion.add_completion_class(kind)


@click.command("completion", cls=commands.Command)
@click.argument("shell", metavar="SHELL", type=click.Choice(_SHELLS))
def command(shell: str) -> int:
    """Print the script by which a SHELL (bash, zsh, fish) completes stfcodec commands.

    \b
    bash (4.4 or newer), in ~/.bashrc:
      eval "$(stfcodec completion bash)"
    zsh, in ~/.zshrc after compinit:
      eval "$(stfcodec completion zsh)"
    fish:
      stfcodec completion fish > ~/.config/fish/completions/stfcodec.fish

    Written to a file that the shell loads, the script does the same without a run of stfcodec at
    every start: ~/.local/share/bash-completion/completions/stfcodec for bash, _stfcodec in a folder
    of $fpath for zsh.
    """  # noqa: D301
    script = _SCRIPTS / f"stfcodec.{shell}"
    messages.result(script.read_text(encoding="utf-8").rstrip("\n"))
    return 0
