"""The stfcodec command: imports and runs one subcommand, and gives every outcome an exit code."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from stfcodec.batch import Failure, explain
from stfcodec.cli import commands, completion, messages, process

# Each command is the object `command` in the module of its name, imported when it is asked for.
COMMANDS = {
    "encode": "Code pictures as .stf files.",
    "decode": "Turn .stf files back into pictures.",
    "info": "Show what .stf files say about themselves.",
    "test": "Test whether .stf files decode.",
    "compare": "Compare our models with other codecs at the same number of bytes.",
    "heatmap": "Draw where in a picture the bits of its .stf file go.",
    "manifest": "Show what runs over a collection have recorded.",
    "models": "List the models and whether their weights are here.",
    "weights": "Install weights for the published networks, and look after them.",
    "completion": "Print the script by which a shell completes these commands.",
    "desktop": "Tell the desktop what .stf files are.",
    "thumbnail": "Write a small PNG of an .stf file, for file managers.",
    "train": "Train a model on photographs.",
}

_SECTIONS = {
    "Code pictures": ("encode", "decode"),
    "Look into files": ("info", "test", "compare", "heatmap", "manifest"),
    "Set up": ("models", "weights", "completion", "desktop", "thumbnail"),
    "Train": ("train",),
}
"""Sections of the help. Commands that are in none come last."""


class LazyGroup(commands.Group):
    """A group whose commands are listed in COMMANDS and imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"stfcodec.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. Endings for which click has habits of its own become SystemExit."""
        try:
            return super().invoke(ctx)
        except process.Stopped as stopped:
            messages.stop(Failure(str(stopped), stopped.exit_code))
            raise SystemExit(stopped.exit_code) from stopped
        except BrokenPipeError as error:  # of standard output, which nobody reads on
            raise SystemExit(1) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        placed = [name for names in _SECTIONS.values() for name in names]
        rest = tuple(name for name in COMMANDS if name not in placed)
        for title, names in {**_SECTIONS, "Other commands": rest}.items():
            if rows := [(name, COMMANDS[name]) for name in names if name in COMMANDS]:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        found = [CompletionItem(n, help=h) for n, h in COMMANDS.items() if n.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)


def _print_parts() -> None:
    """What coding runs on, one line each."""
    import torch

    from stfcodec.codec import codec_for
    from stfcodec.container import VERSION
    from stfcodec.entropy import rans
    from stfcodec.models import registry
    from stfcodec.models.integer_backends import best_backend

    model = codec_for(registry.by_name(registry.DEFAULT_MODEL), registry.DEFAULT_QUALITY).model
    coder = {"c": "C", "python": "Python (no compiler when stfcodec was installed)"}
    parts = {
        "format": f"version {VERSION}",
        "range coder": coder[rans.BACKEND],
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "transforms": f"cpu, {str(model.precision).removeprefix('torch.')}",
        "integers": type(best_backend()).__name__,
        "weights": f"{registry.DEFAULT_MODEL} {model.fingerprint.hex()}",
    }
    for name, value in parts.items():
        messages.result(f"  {name:<12}{value}")


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all well, 1 an operation failed, 2 usage, 3 bad or unsupported image, "
    "4 not an .stf stream or a damaged one, 5 weights missing or wrong, 130 interrupted, "
    "129 and 143 stopped by SIGHUP and SIGTERM.",
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.option("-v", "--verbose", is_flag=True, help="With --version: what coding runs on, too.")
@click.pass_context
def cli(ctx: click.Context, version: bool, verbose: bool) -> None:
    """Code pictures with a neural network, and decode them exactly alike on every machine."""
    if version:
        from stfcodec import __version__

        messages.result(f"stfcodec {__version__}")
        if verbose:
            _print_parts()
        ctx.exit()
    if ctx.invoked_subcommand is None:
        raise click.UsageError("name a command", ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv[1:] by default) and return its exit code."""
    process.occupy_closed_streams()
    if completion.VARIABLE in os.environ:
        completion.register()
    with process.signals_as_exceptions(), process.rare_garbage_collection():
        code = _run(argv)
    try:
        process.flush_standard_output()
    except BrokenPipeError:
        return code or 1
    except OSError as error:
        # An error of the command itself has been told, and this one is its reason.
        reason = f"cannot write standard output: {error.strerror}"
        return code or _fail(reason, 1)
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        with warnings.catch_warnings():
            if not os.environ.get("STFCODEC_DEBUG"):
                warnings.simplefilter("ignore")  # libraries' warnings are for developers
            args = None if argv is None else list(argv)
            code: int | None = cli.main(args, prog_name="stfcodec", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        messages.say(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        return _fail(_one_line(error), error.exit_code)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", process.INTERRUPTED)
    except Exception as error:
        failure = explain(error)
        messages.stop(failure)
        return failure.exit_code
    return code or 0


def _fail(message: str, exit_code: int) -> int:
    messages.stop(Failure(message, exit_code))
    return exit_code


def _one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return text if context is None else f"{text} See '{context.command_path} --help'."
