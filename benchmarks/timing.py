"""How long something takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)
