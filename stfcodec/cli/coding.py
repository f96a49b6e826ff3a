"""What encode, decode and test share: their options, and running a task over files.

heatmap and compare share some of the options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import click

from stfcodec import allocator, batch
from stfcodec.cli import filelist, messages, process, values
from stfcodec.cli.paths import Plan
from stfcodec.cli.progress import DryRun, Progress
from stfcodec.errors import StfError, UsageError
from stfcodec.limits import DEFAULT_LIMITS
from stfcodec.models import registry

_Decorator = Callable[[Callable[..., int]], Callable[..., int]]

_DEVICE = click.option(
    "--device",
    type=click.Choice(registry.DEVICES),
    default="auto",
    show_default=True,
    help="Where the networks run.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout.")
_MAX_PIXELS = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_LIMITS.pixels,
    show_default=True,
    metavar="N",
    help="Refuse larger pictures, counted as they are coded: padded to multiples of 64.",
)
_QUIET = click.option("--quiet", is_flag=True, help="Print nothing but errors.")
_THREADS = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads to use."
)
_WEIGHTS = click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Use this weights file instead of the installed one.",
)
_WORKERS = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that code a picture each; they divide the threads, or have --threads each.  "
    "[default: 1]",
)

_CODING_OPTIONS = (
    click.option(
        "-o",
        "--output",
        metavar="OUT",
        shell_complete=values.complete_files,
        help="File or folder to write; - for stdout.",
    ),
    click.option("-r", "--recursive", is_flag=True, help="Take folders, mirrored under OUT."),
    filelist.inputs("INPUT"),
    click.option("-f", "--force", is_flag=True, help="Replace existing outputs."),
    click.option("--skip-existing", is_flag=True, help="Leave out files whose output exists."),
    click.option(
        "--keep-suffix",
        is_flag=True,
        help="Add the output's suffix to the whole name: a.jpg and a.png stay apart.",
    ),
    click.option(
        "--preserve",
        is_flag=True,
        help="Give outputs the times and permission bits of their sources.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done; write nothing."),
    *(_JSON, _QUIET, _WEIGHTS, _DEVICE, _MAX_PIXELS, _THREADS, _WORKERS),
)
_TESTING_OPTIONS = (
    click.option("-r", "--recursive", is_flag=True, help="Take the .stf files in folders."),
    filelist.inputs("FILE"),
    *(_JSON, _QUIET, _WEIGHTS, _MAX_PIXELS, _THREADS, _WORKERS),
)


def shared_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the arguments and options common to encode and decode."""
    return _add(_CODING_OPTIONS, command)


def testing_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the arguments and options of test."""
    return _add(_TESTING_OPTIONS, command)


def running_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say what a network runs on and how large its pictures may be."""
    return _add((_WEIGHTS, _DEVICE, _MAX_PIXELS, _THREADS), command)


def _add(options: Iterable[_Decorator], command: Callable[..., int]) -> Callable[..., int]:
    for option in reversed(tuple(options)):
        command = option(command)
    return command


def prepare(threads: int | None, workers: int = 1) -> None:
    """Set up this process for coding, as one of several that divide the CPU threads."""
    allocator.keep_freed_memory()
    if threads is not None or workers > 1:
        import torch

        torch.set_num_threads(threads or max(1, torch.get_num_threads() // workers))


def run(
    plan: Plan[Any],
    open_task: batch.OpenTask,
    *,
    force: bool,
    skip_existing: bool,
    preserve: bool,
    dry_run: bool,
    threads: int | None,
    workers: int | None,
    as_json: bool,
    quiet: bool,
    encodes: bool = False,
    note: str | None = None,
) -> int:
    """Run a task over the planned jobs, show results as they come, and return the exit code.

    encodes: inputs are pictures. note: printed at the end if anything was coded.
    """
    existing = existing_outputs(force, skip_existing)
    check_streams(plan.jobs, as_json)
    if preserve and any(job.source is None or job.output is None for job in plan.jobs):
        raise UsageError("--preserve is for files: standard input and output have no times")
    report = batch.Report(plan.single, encodes, plan.left_out)
    if dry_run:
        with open_task() as task:
            planned = batch.dry_run(plan.jobs, task, existing)
            return show(plan, planned, report, DryRun, as_json=as_json, quiet=quiet)
    with results(plan, open_task, threads, workers, existing, preserve) as found:
        code = show(plan, found, report, Progress, as_json=as_json, quiet=quiet)
    if note and report.coded and not quiet:
        messages.note(note)
    return code


def existing_outputs(force: bool, skip_existing: bool) -> batch.Existing:
    """What two options say of outputs that exist. Raises UsageError."""
    if force and skip_existing:
        raise UsageError("--force and --skip-existing contradict each other; give one")
    return "replace" if force else "skip" if skip_existing else "refuse"


@contextmanager
def results(
    plan: Plan[Any],
    open_task: batch.OpenTask,
    threads: int | None,
    workers: int | None,
    existing: batch.Existing = "refuse",
    preserve: bool = False,
) -> Iterator[Iterable[batch.Result]]:
    """The results of a task over the planned jobs, in this process or in worker processes."""
    count = batch.useful_workers(plan.jobs, workers or 1)
    opened = partial(set_up, open_task, threads, count)
    if count > 1:
        with closing(batch.run_in_workers(plan.jobs, opened, count, existing, preserve)) as found:
            yield found
    else:
        with opened() as task, closing(batch.run(plan.jobs, task, existing, preserve)) as found:
            yield found


@contextmanager
def set_up(open_task: batch.OpenTask, threads: int | None, workers: int) -> Iterator[batch.Task]:
    """A task in a process that is set up for it: this one, or a worker."""
    with process.rare_garbage_collection():  # while torch is imported, too
        prepare(threads, workers)
        with open_task() as task:
            yield task


@contextmanager
def ready(task: batch.Task) -> Iterator[batch.Task]:
    """Opens a task that needs nothing opened."""
    yield task


def show(
    plan: Plan[Any],
    found: Iterable[batch.Result],
    report: batch.Report,
    kind: type[Progress],
    *,
    as_json: bool,
    quiet: bool,
) -> int:
    """Show what the user should know before the work, then results, and return the exit code."""
    for path, text in [] if quiet else plan.warnings:
        messages.warn(str(path), text)
    report.warnings += len(plan.warnings)
    total = len(plan.refused) + len(plan.jobs)
    with kind(report, total, as_json=as_json, quiet=quiet) as progress:
        return show_results(chain(plan.refused, found), report, progress)


def show_results(results: Iterable[batch.Result], report: batch.Report, progress: Progress) -> int:
    """Count and show results as they come, and return the exit code."""
    for result in results:
        report.add(result)
        progress.show(result)
    return report.exit_code


def check_streams(jobs: Iterable[batch.AnyJob], as_json: bool) -> None:
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
