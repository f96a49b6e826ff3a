"""stfcodec test: whether .stf files decode. Nothing is written."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from stfcodec import batch
from stfcodec.cli import coding, commands, paths, urls
from stfcodec.cli.filelist import Inputs
from stfcodec.cli.progress import Verdicts
from stfcodec.formats import STREAM_SUFFIXES
from stfcodec.limits import Limits


@click.command("test", cls=commands.Command)
@coding.testing_options
def command(
    inputs: Inputs,
    recursive: bool,
    weights: Path | None,
    max_pixels: int,
    threads: int | None,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Test whether .stf files decode, without writing anything.

    The checks are those of decode up to the pixels: the checksums of all parts, that the weights
    are here, the checksum of the decoded symbols, and the alpha plane. FILE may be - for standard
    input, and with -r folders. The exit code is 0 if all files are whole.
    """
    plan: paths.Plan[Any]
    if urls.are_among(inputs.names):
        plan = urls.sources(inputs.names, STREAM_SUFFIXES, recursive)
    else:
        plan = paths.sources(
            inputs.names, STREAM_SUFFIXES, recursive=recursive, list_file=inputs.list_file
        )
    task = batch.Verify(weights, Limits(pixels=max_pixels))
    report = batch.Report(plan.single, left_out=plan.left_out)
    with coding.results(plan, partial(coding.ready, task), threads, workers) as found:
        return coding.show(plan, found, report, Verdicts, as_json=as_json, quiet=quiet)
