"""What encode and decode do with collections: their options, and running them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from functools import partial, wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from stfcodec import batch, storage
from stfcodec.batch import Naming, on_ray, pools
from stfcodec.cli import coding, messages
from stfcodec.cli.filelist import Inputs
from stfcodec.cli.progress import DryRun, Progress
from stfcodec.errors import UsageError
from stfcodec.shards import RECORDS, SUFFIXES, Kind

_RAY_ADDRESSES = ("local", "auto")


class Wanted(NamedTuple):
    """What the options of collections ask for."""

    manifest: bool
    resume: bool
    retry_failed: bool
    shards: int | None
    shard_format: Kind
    unpack: bool
    ray: str | None
    cpus_per_worker: float | None
    gpus_per_worker: float | None

    def concern(self, inputs: Inputs, output: str | None, recursive: bool) -> bool:
        """Whether inputs are a collection: an option says so, folders behind URLs, shards, or what
        such a run has written."""
        names = (*inputs.names, output or "")
        written = (Path(name) / RECORDS for name in inputs.names if recursive)
        return (
            any((self.manifest, self.resume, self.retry_failed, self.shards, self.unpack))
            or self.ray is not None
            or (recursive and any(map(storage.is_url, names)))
            or any(Path(name).suffix.lower() in SUFFIXES for name in inputs.names)
            or any(map(os.path.isdir, written))
        )


_OPTIONS = (
    click.option("--manifest", is_flag=True, help="Record every picture in OUT/_manifest."),
    click.option("--resume", is_flag=True, help="Do what an earlier run into OUT has not done."),
    click.option("--retry-failed", is_flag=True, help="Resume, and try again what failed."),
    click.option(
        "--shards",
        type=click.IntRange(min=1),
        metavar="PICTURES",
        help="Write shards of so many pictures each in place of files.",
    ),
    click.option(
        "--shard-format",
        type=click.Choice(["tar", "parquet"]),
        default="tar",
        show_default=True,
        help="Of these shards: WebDataset or Parquet.",
    ),
    click.option("--unpack", is_flag=True, help="Write the pictures in shards as files."),
    click.option(
        "--ray",
        is_flag=False,
        flag_value=on_ray.LOCAL,
        metavar="[ADDRESS]",
        help="Run on the Ray cluster at HOST:PORT, or on one of this machine alone. --workers are "
        "then as many as it has room for.",
    ),
    click.option(
        "--cpus-per-worker",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="CPUs of each worker on Ray.  [default: 1]",
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="GPUs of each worker on Ray, or a share of one; with --device cuda.",
    ),
)


def options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options. The command gets `wanted`, of type `Wanted`."""

    @wraps(command)
    def with_wanted(**parameters: Any) -> int:
        wanted = Wanted(**{name: parameters.pop(name) for name in Wanted._fields})
        _check(wanted, parameters["device"])
        return command(wanted=wanted, **parameters)

    found: Callable[..., int] = with_wanted
    for option in reversed(_OPTIONS):
        found = option(found)
    return found


def _check(wanted: Wanted, device: str) -> None:
    """Raises UsageError for what makes no sense."""
    address = wanted.ray
    is_address = address in (None, *_RAY_ADDRESSES) or ":" in str(address)
    if not is_address or storage.is_url(str(address)):
        raise UsageError(f"--ray {address}: no HOST:PORT; put --ray last if it has no address")
    if address is None and (wanted.cpus_per_worker or wanted.gpus_per_worker):
        raise UsageError("--cpus-per-worker and --gpus-per-worker are for --ray")
    if wanted.gpus_per_worker and device != "cuda":
        raise UsageError("--gpus-per-worker needs --device cuda, as the networks run on CPUs else")


def run(
    wanted: Wanted,
    inputs: Inputs,
    output: str | None,
    naming: Naming,
    open_task: batch.OpenTask,
    settings: dict[str, Any],
    *,
    recursive: bool,
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
    """Run a task over a collection, show results as they come, and return the exit code.

    settings: what decides the content of outputs, for the manifest. The others: as of `coding.run`.
    """
    from stfcodec import collection

    existing = coding.existing_outputs(force, skip_existing)
    resumption = collection.Resumption(wanted.resume or wanted.retry_failed, wanted.retry_failed)
    if resumption.goes_on and existing != "refuse":
        raise UsageError("--resume goes on with a run; --force and --skip-existing contradict it")
    target = _output(output, preserve, wanted.shards)
    report = batch.Report(single=False, encodes=encodes)

    def warn(path: str, text: str) -> None:
        report.warnings += 1
        if not quiet:
            messages.warn(path, text)

    found = collection.Collection(
        inputs.names, target, naming, recursive, wanted.unpack, left_out=report.left_out, warn=warn
    )
    coding.check_streams([], as_json)
    if dry_run:
        planned = collection.dry_run(found, resumption)
        with DryRun(report, None, as_json=as_json, quiet=quiet) as progress:
            return coding.show_results(planned, report, progress)
    layout = {
        "keep_suffix": naming.keep_suffix,
        "shards": wanted.shards,
        "shard_format": wanted.shard_format if wanted.shards else None,
        "unpack": wanted.unpack,
    }
    results = collection.run(
        found,
        *_spread(wanted, open_task, threads, workers),
        {**settings, **layout},
        existing=existing,
        preserve=preserve,
        resumption=resumption,
        shard_size=wanted.shards,
        shard_kind=wanted.shard_format,
    )
    with closing(results), Progress(report, None, as_json=as_json, quiet=quiet) as progress:
        code = coding.show_results(results, report, progress)
    if not found.found:
        known = " ".join(sorted(naming.suffixes | set(SUFFIXES)))
        raise UsageError(f"no files found under {', '.join(inputs.names)} (looked for {known})")
    if (failed := report.failed + found.failed_before) and not quiet:
        advice = f"'stfcodec manifest {output} --failed' lists them, --retry-failed tries again"
        messages.note(f"{failed} failed, in earlier runs or in this one: {advice}")
    if found.failed_before:
        code = code or 1
    if note and report.coded and not quiet:
        messages.note(note)
    return code


def _output(output: str | None, preserve: bool, shards: int | None) -> Path | storage.Location:
    """The folder that outputs go to. Raises UsageError."""
    if not output or output == "-":
        raise UsageError("a collection needs a folder for its outputs: give -o FOLDER")
    target = storage.place(output)
    if isinstance(target, Path) and target.exists() and not target.is_dir():
        raise UsageError(f"-o {output} must be a folder")
    if preserve and (shards or isinstance(target, storage.Location)):
        raise UsageError("--preserve is for files: shards and URLs have no times to set")
    if isinstance(target, storage.Location):
        target.check_output(overwrite=True)  # some are for reading only
    return target


def _spread(
    wanted: Wanted, open_task: batch.OpenTask, threads: int | None, workers: int | None
) -> tuple[batch.OpenTask, pools.Runner]:
    """The task as workers open it, and what spreads the work over them."""
    if wanted.ray is not None:
        cpus, gpus = wanted.cpus_per_worker or 1, wanted.gpus_per_worker or 0
        cluster = on_ray.Cluster(wanted.ray, cpus, gpus, workers)
        opened = partial(coding.set_up, open_task, threads or max(1, int(cpus)), 1)
        return opened, partial(on_ray.run_on_ray, cluster=cluster)
    count = workers or 1
    opened = partial(coding.set_up, open_task, threads, count)
    if count == 1:
        return opened, pools.run_here
    return opened, partial(pools.run_in_processes, count=count)
