"""Sets of texts that fit into memory: 8 bytes each."""

from __future__ import annotations

from bisect import bisect_left
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_RECENT = 1 << 16


def hash64(text: str) -> int:
    """64 bits of a text. Two of 10⁷ different texts are equal with a probability of 3·10⁻⁶."""
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class HashSet:
    """Texts by their hashes: sorted arrays, and a set of the last ones."""

    def __init__(self, hashes: np.ndarray | None = None) -> None:
        """hashes: sorted, uint64."""
        self._sorted: list[memoryview] = []  # in which bisect is quick: they give plain numbers
        if hashes is not None and len(hashes):
            self._sorted.append(hashes.data)
        self._recent: set[int] = set()

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and self._has(hash64(text))

    def add(self, text: str) -> bool:
        """Add a text; False if it is there already."""
        value = hash64(text)
        if self._has(value):
            return False
        self._recent.add(value)
        if len(self._recent) >= _RECENT:
            self._sort()
        return True

    def _has(self, value: int) -> bool:
        if value in self._recent:
            return True
        for found in self._sorted:
            place = bisect_left(found, value)
            if place < len(found) and found[place] == value:
                return True
        return False

    def _sort(self) -> None:
        """Move the recent ones into an array, and join arrays of a like size."""
        import numpy as np

        new = np.array(sorted(self._recent), np.uint64)
        while self._sorted and len(self._sorted[-1]) <= 2 * len(new):
            before = np.asarray(self._sorted.pop())
            new = np.sort(np.concatenate([before, new]), kind="stable")
        self._sorted.append(new.data)
        self._recent = set()
