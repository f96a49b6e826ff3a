"""The stfcodec command: imports and runs one subcommand, and gives every outcome an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

import click

# Each command is the object `command` in the module of its name, imported when it is asked for.
COMMANDS = {
    "encode": "Code pictures as .stf files.",
    "decode": "Turn .stf files back into pictures.",
    "info": "Show what .stf files say about themselves.",
    "models": "List the models and whether their weights are here.",
    "train": "Train a model on photographs.",
    "quantize": "Give weights the integer form that coding needs.",
}

INTERRUPTED = 130  # what a shell reports after Ctrl-C


class LazyGroup(click.Group):
    """A group whose commands are listed in COMMANDS and imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"stfcodec.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


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
        click.echo(f"  {name:<12}{value}")


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all well, 1 an operation failed, 2 usage, 3 bad or unsupported image, "
    "4 not an .stf stream or a damaged one, 5 weights missing or wrong, 130 interrupted.",
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.option("-v", "--verbose", is_flag=True, help="With --version: what coding runs on, too.")
@click.pass_context
def cli(ctx: click.Context, version: bool, verbose: bool) -> None:
    """Code pictures with a neural network, and decode them exactly alike on every machine."""
    if version:
        from stfcodec import __version__

        click.echo(f"stfcodec {__version__}")
        if verbose:
            _print_parts()
        ctx.exit()
    if ctx.invoked_subcommand is None:
        raise click.UsageError("name a command", ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv[1:] by default) and return its exit code."""
    try:
        with warnings.catch_warnings():
            if not os.environ.get("STFCODEC_DEBUG"):
                warnings.simplefilter("ignore")  # libraries' warnings are for developers
            args = None if argv is None else list(argv)
            code = cli.main(args, prog_name="stfcodec", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # a closed pipe shows here, not at interpreter exit
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _fail(_one_line(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _discard_stdout()
        return 1
    except Exception as error:
        from stfcodec.batch import explain

        failure = explain(error)
        sys.stderr.write(failure.trace)
        return _fail(failure.message, failure.exit_code)
    return code or 0


def _fail(message: str, exit_code: int) -> int:
    click.echo(f"stfcodec: error: {message}", err=True)
    return exit_code


def _one_line(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    return text if context is None else f"{text} See '{context.command_path} --help'."


def _discard_stdout() -> None:
    """Let the interpreter's last flush of standard output go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
