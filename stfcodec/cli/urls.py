"""From URLs on a command line to jobs, where each input is a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from stfcodec import files
from stfcodec.batch import AnyJob, Naming
from stfcodec.cli.paths import Plan
from stfcodec.errors import UsageError
from stfcodec.storage import Location, is_url, joined, place


def are_among(inputs: Sequence[str], output: str | None = None) -> bool:
    """Whether an input or the output is a URL."""
    return any(is_url(name) for name in (*inputs, output or ""))


def plan(inputs: Sequence[str], output: str | None, naming: Naming) -> Plan[AnyJob]:
    """Pair every input with its output. Raises UsageError.

    output: a file (for one input), a folder (which ends in a slash, or exists), or "-".
    """
    if output is None:
        raise UsageError("nothing can be written beside a URL: give -o FILE, or -o FOLDER/")
    is_single = len(inputs) == 1
    if output in files.STANDARD_OUTPUT:
        if not is_single:
            raise UsageError("standard output takes one file; give -o a folder for several")
        return Plan([AnyJob(_source(inputs[0]), None)], single=True)
    target = place(output)
    is_folder = output.endswith("/") or (isinstance(target, Path) and target.is_dir())
    if is_single and not is_folder:
        return Plan([AnyJob(_source(inputs[0]), target)], single=True)
    if not is_folder and target.suffix:
        raise UsageError(f"-o {output} must be a folder for several inputs, and end in /")
    jobs: dict[str, AnyJob] = {}
    for given in inputs:
        source = _source(given)
        name = str(naming.output(PurePosixPath(source.name)))
        if name in jobs:
            raise UsageError(f"{given} and {jobs[name].input_name} would both become {name}")
        jobs[name] = AnyJob(source, joined(target, name))
    return Plan(list(jobs.values()), single=is_single)


def sources(inputs: Sequence[str], suffixes: frozenset[str], recursive: bool) -> Plan[AnyJob]:
    """A plan of jobs without outputs: files, and those in folders behind URLs.

    Raises UsageError, and StfError where a folder cannot be listed.
    """
    jobs: dict[Path | Location, AnyJob] = {}
    for given in dict.fromkeys(inputs):
        found = _source(given)
        is_file = found.suffix.lower() in suffixes
        if isinstance(found, Path) or is_file or found.is_on_the_web:
            jobs[found] = AnyJob(found)
            continue
        if not recursive:
            raise UsageError(f"{given} is a folder; add -r to take the files in it")
        names = (name for name in found.walk() if PurePosixPath(name).suffix.lower() in suffixes)
        jobs |= {place: AnyJob(place) for place in map(found.joined, names)}
    if not jobs:
        raise UsageError(f"no files found under {', '.join(inputs)}")
    return Plan(list(jobs.values()), single=len(jobs) == 1 and len(inputs) == 1 and not recursive)


def _source(given: str) -> Path | Location:
    if given in files.STANDARD_INPUT:
        raise UsageError(f"standard input ({given}) cannot be mixed with URLs")
    if not given:
        raise UsageError("an empty name: name a file")
    return place(given)
