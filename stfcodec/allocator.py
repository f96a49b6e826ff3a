"""Memory that coding frees is kept for the next tensor, on Linux with glibc.

Commands ask for it when they start. A library in somebody else's process leaves malloc alone: a
host that wants the speed calls `keep_freed_memory` itself.

By default glibc returns each large block to the system when it is freed, and the next tensor of
that size waits for fresh pages, all zeroed: about a quarter of the time of g_a and g_s
(docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt (malloc.h)."""

_LARGEST = 1 << 30
"""Bytes: blocks up to here come from the heap, and so much may lie free at its end."""


_kept = False


@cache
def keep_freed_memory() -> bool:
    """Asks malloc, for the whole process, to keep what is freed. False where that is not possible.

    Whoever has set malloc's own variables (MALLOC_…, GLIBC_TUNABLES) has chosen, and is obeyed.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return False
    global _kept
    accepted = [mallopt(p, _LARGEST) for p in (_MMAP_THRESHOLD, _TRIM_THRESHOLD)]
    _kept = all(accepted)
    return _kept


def give_back_memory() -> None:
    """Returns to the system what has been kept, if anything is: after work on a large picture."""
    if _kept:
        ctypes.CDLL(None).malloc_trim(0)
