"""How outputs are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

P = TypeVar("P", bound=PurePath)


@dataclass(frozen=True)
class Naming:
    """How the output of a file is called.

    suffixes: the files to take in folders, in lower case; a file that is named is taken whatever
    its suffix. output_suffix: such as ".stf". keep_suffix: photo.png becomes photo.png.stf.
    """

    suffixes: frozenset[str]
    output_suffix: str
    keep_suffix: bool = False

    def knows(self, path: PurePath) -> bool:
        """Whether a file is taken, by its name."""
        return path.suffix.lower() in self.suffixes

    def output(self, path: P) -> P:
        """photo.png -> photo.stf, but trip.2024 -> trip.2024.stf: only known suffixes go."""
        if self.knows(path) and not self.keep_suffix:
            return path.with_suffix(self.output_suffix)
        return path.with_name(path.name + self.output_suffix)
