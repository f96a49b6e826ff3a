"""The files of a collection: named one by one, or found in folders, on disks and behind URLs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stfcodec import api, container, files, listing, storage
from stfcodec.container import Stream
from stfcodec.errors import StfError, StreamError, UsageError
from stfcodec.limits import Limits
from stfcodec.shards import RECORDS
from stfcodec.storage import Location

Place = str | Path | Location
"""A path or a URL, of a file or a folder."""


class Found(NamedTuple):
    """A file of a collection."""

    place: Path | Location
    below: str
    """Its path below the folder that it was found in; empty where the file itself was named."""


def find(source: Place | Iterable[Place], suffixes: Iterable[str]) -> list[Found]:
    """The files of one place or of several: those of a folder by name, subfolders included.

    suffixes: of the files to take in folders, in lower case. Files and folders whose name begins
    with a dot are left out, records of runs too. Links to folders are not followed, of which a
    warning tells. Raises UsageError where nothing is found, StfError where a folder cannot be read.
    """
    known = frozenset(suffixes)
    places = [source] if isinstance(source, str | Path | Location) else list(source)
    found: list[Found] = []
    for given in places:
        place = storage.place(given) if isinstance(given, str) else given
        if _is_file(place, known):
            found.append(Found(place, ""))
            continue
        names = _walk(place) if isinstance(place, Path) else place.walk()
        taken = sorted(n for n in names if _suffix(n) in known and not _is_hidden(n))
        found += (Found(storage.joined(place, name), name) for name in taken)
    if not found:
        looked = (
            f"no {' or '.join(sorted(known))} file in {', '.join(map(str, places)) or 'a list'}"
        )
        raise UsageError(f"{looked}: name files, or a folder that has some")
    return found


def read(place: Path | Location, limits: Limits) -> Stream:
    """The stream in a file. Raises StreamError, and StfError for unreadable files."""
    if isinstance(place, Path):
        return api.read_stream(place, limits)
    try:
        data = place.read_bytes(limits.bytes, container.check_signature)
    except files.TooLongError as error:
        raise StreamError(str(error)) from error
    return api.read_stream(data, limits)


def _is_file(place: Path | Location, known: frozenset[str]) -> bool:
    if isinstance(place, Location):
        return place.suffix.lower() in known
    if not place.exists():
        raise UsageError(f"{place} does not exist: name a file or a folder")
    return not place.is_dir()


def _walk(root: Path) -> Iterator[str]:
    for path, kind, reason in listing.walk(root, lambda path: True):
        if kind == "refused" and path.is_dir():
            raise StfError(f"cannot read {path}: {reason}")
        if kind == "linked folder":
            warnings.warn(f"{path}: a link to a folder is not followed; name it", stacklevel=2)
        elif kind != "left out":
            yield path.relative_to(root).as_posix()


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == RECORDS for part in name.split("/"))
