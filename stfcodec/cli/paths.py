"""From the paths on a command line to jobs: which files are read, and where the results go.

Whatever can be refused by its name is refused here, before any work starts. A request that makes no
sense is an error. A single file or folder among others is refused alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from stfcodec import files, listing
from stfcodec.batch import AnyJob, Job, Naming, Result, explain
from stfcodec.errors import StfError, UsageError
from stfcodec.storage import Location

_LINKED = "a link to a folder, which -r does not follow; name it to take it"
_NOT_RECURSIVE = "is a folder; add -r to take the files in it"
EMPTY_NAME = "an empty name (perhaps of a variable that is not set): name a file"
MISNAMED = "will hold {} data, whatever its name says"


J = TypeVar("J", bound=AnyJob)


@dataclass(frozen=True)
class Plan(Generic[J]):
    """The jobs of one command."""

    jobs: list[J]
    single: bool
    """The user named one file."""
    refused: list[Result] = field(default_factory=list)
    """Files and folders that cannot be coded, each with the reason."""
    warnings: list[tuple[Path | Location, str]] = field(default_factory=list)
    """Paths, each with what the user should know of it before the work."""
    left_out: Counter[str] = field(default_factory=Counter)
    """How many files in folders are hidden or have none of the suffixes, by kind."""


def plan(
    inputs: Sequence[str],
    output: str | None,
    naming: Naming,
    *,
    recursive: bool,
    list_file: str | None = None,
) -> Plan[Job]:
    """Pair every input with its output.

    output: a file (for one input), a folder, "-" or None (beside the source). list_file: the list
    that inputs come from; then a single one counts as one of several. Raises UsageError if the
    request makes no sense.
    """
    if output == "":
        raise UsageError(EMPTY_NAME)
    if _is_single(inputs, recursive, list_file):
        jobs, refused = _without_clashes([_single(inputs[0], output, naming)], naming)
        misnamed = [job.output for job in jobs if job.output and naming.knows(job.output)]
        warnings: list[tuple[Path | Location, str]]
        warnings = [(path, MISNAMED.format(naming.output_suffix)) for path in misnamed]
        return Plan(jobs, True, refused, warnings)
    if output is None and list_file is None and _names_output(inputs[-1], naming):
        raise UsageError(f"{inputs[-1]} does not exist; if it is the output, give -o {inputs[-1]}")
    search = _Search(_folder(output), naming)
    for given in inputs:
        if given in files.STANDARD_INPUT:
            raise UsageError(f"standard input ({given}) cannot be mixed with other inputs")
        search.add(Path(given), recursive)
    jobs, refused = _without_clashes(search.jobs, naming, list_file)
    return _planned(search, inputs, jobs, search.refused + refused)


def sources(
    inputs: Sequence[str],
    suffixes: frozenset[str],
    *,
    recursive: bool,
    list_file: str | None = None,
) -> Plan[Job]:
    """A plan of jobs without outputs. Arguments and errors are those of `plan`."""
    single = _is_single(inputs, recursive, list_file)
    search = _Search(None, Naming(suffixes, output_suffix=""))
    for given in inputs:
        if given in files.STANDARD_INPUT:
            search.jobs.append(Job(None))
        else:
            search.add(Path(given), recursive)
    jobs = {job.source and files.identity(job.source): Job(job.source) for job in search.jobs}
    return _planned(search, inputs, list(jobs.values()), search.refused, single)


def _is_single(inputs: Sequence[str], recursive: bool, list_file: str | None) -> bool:
    """Whether the user named one file. Raises UsageError for what is no name, or needs -r."""
    if "" in inputs:
        raise UsageError(EMPTY_NAME)
    if len(inputs) > 1 or list_file is not None:
        return False
    if not _is_folder(Path(inputs[0])):
        return True
    if not recursive:
        raise UsageError(f"{inputs[0]} {_NOT_RECURSIVE}")
    return False


def _planned(
    search: _Search,
    inputs: Sequence[str],
    jobs: list[Job],
    refused: list[Result],
    single: bool = False,
) -> Plan[Job]:
    """What a search found. Raises UsageError if that is nothing."""
    if not jobs and not refused:
        known = " ".join(sorted(search.naming.suffixes))
        raise UsageError(f"no files found under {', '.join(inputs)} (looked for {known})")
    outputs = {job.output for job in (*jobs, *(result.job for result in refused))}
    left_out = Counter(_kind(path) for path in search.left_out if path not in outputs)
    warnings: list[tuple[Path | Location, str]]
    warnings = [(path, _LINKED) for path in search.linked_folders]
    return Plan(jobs, single, refused, warnings, left_out)


def _names_output(given: str, naming: Naming) -> bool:
    """Whether an input is rather a name for the output, as other programs take it."""
    return not os.path.lexists(given) and bool(Path(given).suffix) and not naming.knows(Path(given))


def _kind(path: Path) -> str:
    """What a file that is left out counts as."""
    return "hidden" if path.name.startswith(".") else path.suffix.lower() or "without suffix"


def _single(given: str, output: str | None, naming: Naming) -> Job:
    source = None if given in files.STANDARD_INPUT else Path(given)
    if output in files.STANDARD_OUTPUT or (output is None and source is None):
        return Job(source, None)
    has_name = source is not None and not files.is_open_file(source)
    if output is None or _is_folder(Path(output)) or _names_folder(output):
        if source is None or not has_name:
            where = "" if output is None else f" in {output}"
            raise UsageError(f"{given} has no name to use{where}; give -o a file name")
        if output is None:
            return Job(source, naming.output(source))
        return Job(source, Path(output) / naming.output(Path(source.name)))
    folder = Path(output).parent
    if not _is_folder(folder):
        raise UsageError(f"-o {output}: the folder {folder} does not exist")
    return Job(source, Path(output))


def _folder(output: str | None) -> Path | None:
    if output is None:
        return None
    if output in files.STANDARD_OUTPUT:
        raise UsageError("standard output takes one file; give -o a folder for several")
    folder = Path(output)
    is_new = not os.path.lexists(folder) and (not folder.suffix or _names_folder(output))
    if not is_new and not _is_folder(folder):
        raise UsageError(f"-o {output} must be a folder for several inputs (a new one ends in /)")
    return folder


def _names_folder(path: str) -> bool:
    return path.endswith(("/", os.sep))


def _is_folder(path: Path) -> bool:
    """False, and no error, for what lies in a locked folder or has too long a name."""
    try:
        return path.is_dir()
    except OSError:
        return False


class _Search:
    """Finds the files to code, and keeps what it cannot take."""

    def __init__(self, folder: Path | None, naming: Naming) -> None:
        self.folder = folder  # outputs mirror their sources below it
        self.naming = naming
        self.jobs: list[Job] = []
        self.refused: list[Result] = []
        self.left_out: list[Path] = []
        self.linked_folders: list[Path] = []

    def add(self, path: Path, recursive: bool) -> None:
        """A file, or the files in a folder."""
        if not _is_folder(path):
            self.take(path.parent, path)
        elif recursive:
            self.walk(path)
        else:
            self.refuse(path, UsageError(_NOT_RECURSIVE))

    def take(self, root: Path, source: Path) -> None:
        place = (self.folder or root) / source.relative_to(root)
        self.jobs.append(Job(source, self.naming.output(place)))

    def refuse(self, path: Path, error: StfError) -> None:
        self.refused.append(Result(Job(path, self.folder or path), failure=explain(error)))

    def walk(self, root: Path) -> None:
        """The files below `root`, as `listing.walk` finds them."""
        for path, kind, reason in listing.walk(root, self.naming.knows):
            if kind == "file":
                self.take(root, path)
            elif kind == "left out":
                self.left_out.append(path)
            elif kind == "linked folder":
                self.linked_folders.append(path)
            else:
                self.refuse(path, StfError(reason))


def _without_clashes(
    jobs: Iterable[Job], naming: Naming, list_file: str | None = None
) -> tuple[list[Job], list[Result]]:
    """Drop jobs given twice; refuse jobs with one output, and outputs that are inputs.

    list_file: the list of inputs, which is an input as well.
    None of the jobs with one output is coded: the output may exist, made of any of them.
    """
    jobs = list(jobs)
    sources: set[object] = {job.source and files.identity(job.source) for job in jobs}
    if list_file is not None:
        sources.add(files.identity(Path(list_file)))
    groups: dict[str | None, dict[object, Job]] = {}
    for job in jobs:
        place = None if job.output is None else os.path.normcase(os.path.realpath(job.output))
        source = job.source and files.identity(job.source)
        groups.setdefault(place, {}).setdefault(source, job)
    distinct: list[Job] = []
    refused: list[Result] = []
    for group in groups.values():
        rivals = list(group.values())
        advice = _advice(rivals, naming)
        for job in rivals:
            if len(rivals) > 1:
                text = _clash(job, rivals, advice)
            elif _is_among(job.output, sources):
                text = f"its output would be {job.output_name}, which is an input; use another -o"
            else:
                distinct.append(job)
                continue
            refused.append(Result(job, failure=explain(UsageError(text))))
    return distinct, refused


def _is_among(path: Path | None, identities: set[object]) -> bool:
    return path is not None and os.path.lexists(path) and files.identity(path) in identities


def _clash(job: Job, rivals: list[Job], advice: str) -> str:
    """rivals: all jobs with one output, this one among them."""
    other = rivals[1] if job is rivals[0] else rivals[0]
    more = f" and {len(rivals) - 2} more" if len(rivals) > 2 else ""
    return f"would become {job.output_name}, as would {other.input_name}{more}; {advice}"


def _advice(rivals: list[Job], naming: Naming) -> str:
    names = {Path(job.input_name).name for job in rivals}
    can_keep = not naming.keep_suffix and len(names) == len(rivals)
    return "--keep-suffix keeps them apart" if can_keep else "rename it or give it another -o"
