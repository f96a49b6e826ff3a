"""Keeping freed memory in the process, on Linux with glibc.

By default glibc returns each large block to the system when it is freed. The next tensor of that
size then waits for new pages, which the system fills with zeros: about a quarter of the time of g_a
and g_s (docs/performance.md).

The commands of stfcodec keep freed memory. The Python API does not, as malloc belongs to the host
program, which may call `keep_freed_memory` itself.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt (malloc.h)."""

_LARGEST = 1 << 30
"""Bytes. Blocks up to this size come from the heap, and so much may lie free at the heap's end."""

_kept = False


@cache
def keep_freed_memory() -> bool:
    """Ask malloc, for the whole process, to keep freed memory. False where that is not possible.

    Where one of malloc's own environment variables (MALLOC_…, GLIBC_TUNABLES) is set, malloc is
    left as it is.
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
    """Return kept memory to the system, if any is kept: after work on a large picture."""
    if _kept:
        ctypes.CDLL(None).malloc_trim(0)
