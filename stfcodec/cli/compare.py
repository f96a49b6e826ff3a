"""stfcodec compare: our models beside other codecs at the same number of bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stfcodec import batch, container, files
from stfcodec.cli import coding, commands, messages, paths, reading, values
from stfcodec.errors import ImageError, StfError, UsageError, printable
from stfcodec.limits import Limits
from stfcodec.models import registry

if TYPE_CHECKING:
    from stfcodec.compare.measure import Options
    from stfcodec.compare.results import Comparison

_QUALITIES = "1,3,5"
_PAGES = (".html", ".htm")


@click.command("compare", cls=commands.Command)
@click.argument(
    "inputs",
    nargs=-1,
    required=True,
    metavar="PICTURE...",
    shell_complete=values.complete_inputs,
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    shell_complete=values.complete_files,
    help="Web page to write; - for stdout.",
)
@click.option(
    "-m",
    "--models",
    default=registry.DEFAULT_MODEL,
    show_default=True,
    metavar="MODELS",
    shell_complete=values.complete_models,
    help="Our models, separated by commas. The first one sets the sizes.",
)
@click.option(
    "-q",
    "--qualities",
    default=_QUALITIES,
    show_default=True,
    metavar="LIST",
    help="Qualities of the first model, separated by commas.",
)
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(0, registry.MAX_EFFORT),
    default=0,
    show_default=True,
    metavar="N",
    help="As of encode.",
)
@coding.running_options
@click.option("-f", "--force", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a picture on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def command(
    inputs: tuple[str, ...],
    output: str | None,
    models: str,
    qualities: str,
    effort: int,
    weights: Path | None,
    device: str,
    max_pixels: int,
    threads: int | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Compare our models with JPEG, WebP and AVIF at the same number of bytes.

    Each PICTURE is coded at every quality, and by each other codec in a file of the same size, as
    near as it comes. OUT becomes one web page that needs no network: a border to drag between the
    source and what was decoded, differences, bits per position, rate-distortion curves, sizes,
    times, PSNR, MS-SSIM and SSIMULACRA2. It holds the pictures, without their metadata. Without -o
    a table is printed.
    """
    sources = _sources(inputs)
    target = _target(output, sources, force)
    if output is None and sys.stdout is None:
        raise StfError("cannot write standard output: it is closed")
    # A table may go to a terminal, which a job without an output may not.
    place = Path(os.devnull) if output is None else target
    jobs = [batch.Job(source, place) for source in sources]
    coding.check_streams(jobs, as_json)
    names = _models(models)
    levels = _qualities(qualities, names)
    coding.prepare(threads)
    from stfcodec.compare import measure

    options = measure.Options(
        models=names,
        qualities=levels,
        effort=effort,
        device=device,
        weights=weights,
        limits=Limits(pixels=max_pixels),
    )
    measure.check(options)
    found, failures = [], []
    with _progress(len(jobs) * measure.steps(options), quiet) as advance:
        for job in jobs:
            try:
                comparison = _compare(job, options, advance)
            except Exception as error:
                failure = batch.explain(error)
                messages.fail(job.input_name, failure, as_json)
                failures.append(failure)
                continue
            found.append(comparison)
            if not quiet:
                for note in comparison.notes:
                    messages.warn(job.input_name, note)
    missing = measure.missing_packages()
    if missing and found and not quiet:
        messages.note(f"more is measured after: pip install {' '.join(missing)}")
    if found:
        try:
            if output is not None:
                _write(found, target, sources, force, quiet or as_json)
        finally:  # the numbers are not lost where the page cannot be written
            if as_json or output is None:
                _print(found, as_json)
    if not failures:
        return 0
    return failures[0].exit_code if len(jobs) == 1 else 1


def _sources(inputs: Sequence[str]) -> list[Path | None]:
    """The pictures; None is standard input. Raises UsageError."""
    if "" in inputs:
        raise UsageError(paths.EMPTY_NAME)
    sources = [None if given in files.STANDARD_INPUT else Path(given) for given in inputs]
    for source in sources:
        if source is None:
            continue
        if source.is_dir():
            raise UsageError(f"{source} is a folder; name the pictures in it")
        if source.suffix.lower() in _PAGES and not source.exists():
            raise UsageError(f"{source} does not exist; if it is the output, give -o {source}")
    if sources.count(None) > 1:
        raise UsageError("standard input can be given once")
    return sources


def _target(output: str | None, sources: Sequence[Path | None], force: bool) -> Path | None:
    """The file to write; None without one, or for standard output. Raises UsageError."""
    if output == "":
        raise UsageError(paths.EMPTY_NAME)
    if output is None or output in files.STANDARD_OUTPUT:
        return None
    target = Path(output)
    files.check_output(target, force)
    if not target.parent.is_dir():
        raise UsageError(f"-o {output}: the folder {target.parent} does not exist")
    if files.identity(target) in {files.identity(source) for source in sources if source}:
        raise UsageError(f"-o {output} is an input; use another -o")
    return target


def _models(text: str) -> tuple[str, ...]:
    """Names of models. Raises UsageError for an unknown one."""
    names = dict.fromkeys(name.strip().lower() for name in text.split(","))
    return tuple(registry.by_name(name).name for name in names)


def _qualities(text: str, models: Sequence[str]) -> tuple[float, ...]:
    """Rising qualities. Raises UsageError for those that a model does not have."""
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise UsageError(
            f"--qualities {text!r} is no list of numbers; give one such as {_QUALITIES}"
        ) from None
    for model in models:
        for quality in found:
            registry.check_quality(quality, registry.by_name(model))
    return tuple(found)


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[], object]]:
    """A bar on a terminal; the function it gives moves it on by a step."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=total, leave=False, file=sys.stderr, dynamic_ncols=True) as bar:
        yield bar.update


def _compare(job: batch.Job, options: Options, advance: Callable[[], object]) -> Comparison:
    from stfcodec.compare import measure

    data = reading.read_bytes(job.source, options.limits)
    if container.has_signature(data):
        raise ImageError("is coded already; give the picture it was made of")
    picture = reading.read_picture(data, options.settings(options.models[0], options.qualities[0]))
    return measure.compare(job.input_name, picture, len(data), options, advance)


def _write(
    found: Sequence[Comparison],
    target: Path | None,
    sources: Sequence[Path | None],
    force: bool,
    quiet: bool,
) -> None:
    """Write the page to a file, or to standard output for None."""
    from stfcodec.compare import page

    data = page.render(found).encode("utf-8")
    if target is None:
        files.write_standard_output(data)
        return
    # The page holds the pictures, so it is as private as they are.
    files.write_bytes(target, data, overwrite=force, like=sources)
    if not quiet:
        count = f"{len(found)} picture" + "s" * (len(found) > 1)
        messages.say(printable(f"{target}: {count}, {len(data) / 1e6:.1f} MB"))


def _print(found: Sequence[Comparison], as_json: bool) -> None:
    """Print a JSON object for each picture, or their tables and that of the means."""
    from stfcodec.compare import summary

    if as_json:
        for comparison in found:
            messages.record(summary.to_json(comparison))
        return
    tables = [summary.table(comparison) for comparison in found]
    if len(found) > 1:
        tables.append(summary.mean_table(found))
    for table in tables:
        for line in (*table, ""):
            messages.result(line)
