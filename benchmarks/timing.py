"""Wall time of a function: the median of several runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def median_seconds(run: Callable[[], object], rounds: int) -> float:
    """Median wall time in seconds of `rounds` runs."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)
