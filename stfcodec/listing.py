"""The files below a local folder, in the order of their names and however many there are."""

from __future__ import annotations

import heapq
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Literal, NamedTuple

_IN_MEMORY = 100_000
"""Entries of one folder. Where it has more, they are sorted in temporary files."""

Kind = Literal["file", "folder", "left out", "linked folder", "refused"]


class Found(NamedTuple):
    """An entry of a folder.

    "left out": hidden, or not of a kind that is wanted. "linked folder": a link, which is not
    followed. "refused": it cannot be read, for the reason given.
    """

    path: Path
    kind: Kind
    reason: str = ""


class _Entry(NamedTuple):
    name: str
    kind: Kind
    reason: str = ""


def walk(root: Path, wants: Callable[[Path], bool]) -> Iterator[Found]:
    """What is below `root`: of each folder its files, and then its folders.

    wants: whether a file is of a kind to take, by its name. Hidden files are left out, and hidden
    folders are passed over. Folders themselves are not told.
    """
    folders = [root]
    while folders:
        folder = folders.pop()
        below = []
        try:
            with ExitStack() as stack:
                for name, kind, reason in _sorted_entries(folder, wants, stack):
                    if kind == "folder":
                        below.append(folder / name)
                    else:
                        yield Found(folder / name, kind, reason)
        except OSError as error:
            yield Found(folder, "refused", f"cannot list the folder: {error.strerror}")
        folders += reversed(below)


def _sorted_entries(
    folder: Path, wants: Callable[[Path], bool], stack: ExitStack
) -> Iterator[_Entry]:
    """Raises OSError. stack: closes temporary files."""
    with os.scandir(folder) as found:
        entries = (_entry(entry, wants) for entry in found)
        runs: list[Iterator[_Entry]] = []
        while run := sorted(islice((e for e in entries if e), _IN_MEMORY)):
            if len(run) < _IN_MEMORY and not runs:
                yield from run
                return
            file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            for entry in run:
                pickle.dump(tuple(entry), file)
            file.seek(0)
            runs.append(_read_run(file, len(run)))
    yield from heapq.merge(*runs)


def _read_run(file: IO[bytes], count: int) -> Iterator[_Entry]:
    for _ in range(count):
        yield _Entry(*pickle.load(file))


def _entry(entry: os.DirEntry[str], wants: Callable[[Path], bool]) -> _Entry | None:
    """None for a hidden folder, and for a hidden file that cannot be told from one."""
    path, is_hidden = Path(entry), entry.name.startswith(".")
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError as error:  # a link to itself, for instance
        if is_hidden:
            return None
        return _Entry(entry.name, "refused", f"cannot be read: {error.strerror}")
    if is_folder:
        if is_hidden:
            return None
        return _Entry(entry.name, "linked folder" if entry.is_symlink() else "folder")
    if is_hidden or not wants(path):
        return _Entry(entry.name, "left out")
    if is_file or not path.exists():  # reading a broken link is an error of its own
        return _Entry(entry.name, "file")
    return _Entry(entry.name, "refused", "is a pipe, a socket or a device; name it to read it")
