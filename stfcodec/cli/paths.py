"""From the paths on a command line to jobs: which files are read, and where the results go.

Whatever can be refused by its name is refused here, before any work starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stfcodec.batch import Job
from stfcodec.errors import StfError, UsageError
from stfcodec.files import STANDARD_STREAM


@dataclass(frozen=True)
class Plan:
    """The jobs of one command; `single` if the user named exactly one file."""

    jobs: list[Job]
    single: bool


def plan(
    inputs: Sequence[str],
    output: str | None,
    *,
    recursive: bool,
    suffixes: frozenset[str],
    target_suffix: str,
) -> Plan:
    """Pair every input with its output.

    output: a file (for one input), a folder, "-" or None (beside the source). suffixes: the files
    to take in folders, in lower case; a file that is named is taken whatever its suffix.
    target_suffix: the suffix of inferred output names, such as ".stf". Raises UsageError if the
    request makes no sense, or two outputs would be the same file.
    """
    single = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if single:
        jobs = [_single(inputs[0], output, suffixes, target_suffix)]
    else:
        folder = _folder(output)
        jobs = [
            Job(
                source,
                _renamed((folder or root) / source.relative_to(root), suffixes, target_suffix),
            )
            for given in inputs
            for root, source in _sources(given, recursive, suffixes)
        ]
        if not jobs:
            known = " ".join(sorted(suffixes))
            raise UsageError(f"no files to code under {', '.join(inputs)} (looked for {known})")
    return Plan(_distinct(jobs), single)


def _single(given: str, output: str | None, suffixes: frozenset[str], suffix: str) -> Job:
    source = None if given == STANDARD_STREAM else Path(given)
    if output == STANDARD_STREAM or (output is None and source is None):
        return Job(source, None)
    if output is None:
        return Job(source, _renamed(Path(given), suffixes, suffix))
    target = Path(output)
    if target.is_dir() or _names_folder(output):
        if source is None:
            raise UsageError(f"standard input has no name to use in {output}; give -o a file name")
        return Job(source, target / _renamed(Path(source.name), suffixes, suffix))
    if not target.parent.is_dir():
        raise UsageError(f"-o {output}: the folder {target.parent} does not exist")
    return Job(source, target)


def _folder(output: str | None) -> Path | None:
    if output is None:
        return None
    if output == STANDARD_STREAM:
        raise UsageError("standard output takes one file; give -o a folder for several")
    folder = Path(output)
    if folder.is_file() or (folder.suffix and not folder.is_dir() and not _names_folder(output)):
        raise UsageError(f"-o {output} must be a folder for several inputs (a new one ends in /)")
    return folder


def _names_folder(path: str) -> bool:
    return path.endswith(("/", os.sep))


def _renamed(path: Path, suffixes: frozenset[str], suffix: str) -> Path:
    """photo.png -> photo.stf, but trip.2024 -> trip.2024.stf: only a known suffix is replaced."""
    known = path.suffix.lower() in suffixes
    return path.with_suffix(suffix) if known else path.with_name(path.name + suffix)


def _sources(given: str, recursive: bool, suffixes: frozenset[str]) -> Iterator[tuple[Path, Path]]:
    """The files that one argument names, each with the folder that output paths mirror."""
    if given == STANDARD_STREAM:
        raise UsageError("standard input (-) cannot be mixed with other inputs")
    path = Path(given)
    if not path.is_dir():
        yield path.parent, path
        return
    if not recursive:
        raise UsageError(f"{given} is a folder; add -r to take the files in it")
    for folder, folders, names in os.walk(path, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield path, Path(folder, name)


def _unreadable(error: OSError) -> None:
    raise StfError(f"cannot list the folder {error.filename}: {error.strerror}") from error


def _distinct(jobs: list[Job]) -> list[Job]:
    """Drop jobs given twice; refuse two jobs with one output, or an output that is an input."""
    sources = {_identity(job.source) for job in jobs}
    distinct: dict[str, Job] = {}
    for job in jobs:
        if job.target is None:
            return jobs  # standard output: the only job
        if job.target.exists() and _identity(job.target) in sources:
            raise UsageError(
                f"{job.target} would be the output for {job.input} but is an input; use another -o"
            )
        place = os.path.normcase(job.target.resolve())
        other = distinct.setdefault(place, job)
        if _identity(other.source) != _identity(job.source):
            raise UsageError(
                f"{other.input} and {job.input} would both become {job.target}; "
                "rename one or code them apart"
            )
    return list(distinct.values())


def _identity(path: Path | None) -> object:
    """Equal for two paths that lead to the same file, through links of either kind too."""
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return os.path.normcase(path.absolute())
    return status.st_dev, status.st_ino
