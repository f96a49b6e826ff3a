"""What encode and decode share: their options, and running a task over files.

heatmap shares some of the options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path

import click

from stfcodec import allocator, batch
from stfcodec.cli import messages, values
from stfcodec.cli.paths import Plan
from stfcodec.cli.progress import Progress
from stfcodec.errors import StfError, UsageError
from stfcodec.limits import DEFAULT_LIMITS
from stfcodec.models import registry

_RUNNING_OPTIONS = (
    click.option(
        "--weights",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="Use this weights file instead of the installed one.",
    ),
    click.option(
        "--device",
        type=click.Choice(registry.DEVICES),
        default="auto",
        show_default=True,
        help="Where the networks run.",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=DEFAULT_LIMITS.pixels,
        show_default=True,
        metavar="N",
        help="Refuse larger pictures, counted as they are coded: padded to multiples of 64.",
    ),
    click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads to use."),
)

_OPTIONS = (
    click.argument(
        "inputs",
        nargs=-1,
        required=True,
        metavar="INPUT...",
        shell_complete=values.complete_inputs,
    ),
    click.option(
        "-o",
        "--output",
        metavar="OUT",
        shell_complete=values.complete_files,
        help="File or folder to write; - for stdout.",
    ),
    click.option("-r", "--recursive", is_flag=True, help="Take folders, mirrored under OUT."),
    click.option("-f", "--force", is_flag=True, help="Replace existing outputs."),
    click.option("--skip-existing", is_flag=True, help="Leave out files whose output exists."),
    click.option(
        "--keep-suffix",
        is_flag=True,
        help="Add the output's suffix to the whole name: a.jpg and a.png stay apart.",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout."),
    click.option("--quiet", is_flag=True, help="Print nothing but errors."),
)


def shared_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the arguments and options common to encode and decode."""
    command = running_options(command)
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def running_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say what a network runs on and how large its pictures may be."""
    for option in reversed(_RUNNING_OPTIONS):
        command = option(command)
    return command


def prepare(threads: int | None) -> None:
    """Set up this process for coding."""
    allocator.keep_freed_memory()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def run(
    plan: Plan,
    task: batch.Task,
    *,
    force: bool,
    skip_existing: bool,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    encodes: bool = False,
    note: str | None = None,
) -> int:
    """Run `task` over the planned jobs, show results as they come, and return the exit code.

    encodes: inputs are pictures. note: printed at the end if anything was coded.
    """
    if force and skip_existing:
        raise UsageError("--force and --skip-existing contradict each other; give one")
    check_streams(plan.jobs, as_json)
    for path, text in [] if quiet else plan.warnings:
        messages.warn(str(path), text)
    prepare(threads)
    existing: batch.Existing = "replace" if force else "skip" if skip_existing else "refuse"
    report = batch.Report(plan.single, encodes, plan.left_out, warnings=len(plan.warnings))
    total = len(plan.refused) + len(plan.jobs)
    with (
        Progress(report, total, as_json=as_json, quiet=quiet) as progress,
        closing(batch.run(plan.jobs, task, existing)) as results,
    ):
        for result in chain(plan.refused, results):
            report.add(result)
            progress.show(result)
    if note and report.coded and not quiet:
        messages.note(note)
    return report.exit_code


def check_streams(jobs: Iterable[batch.Job], as_json: bool) -> None:
    """Raises UsageError, or StfError if one of them is closed, before any work."""
    if as_json and sys.stdout is None:
        raise StfError("--json needs standard output, which is closed")
    for job in jobs:
        if job.source is None and sys.stdin and sys.stdin.isatty():
            raise UsageError("standard input is a terminal; pipe a file into it or name one")
        if job.output is not None:
            continue
        if as_json:
            raise UsageError("--json and the coded file cannot both go to standard output")
        if sys.stdout is None:
            raise StfError("cannot write standard output: it is closed")
        if sys.stdout.isatty():
            raise UsageError("binary data is not written to a terminal; redirect it or use -o FILE")
