"""Wall seconds of some work, and medians of repeated measurements."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(repeats: int, **measurements: Callable[[], float]) -> dict[str, float]:
    """Run measurements in turn, once to warm up and then `repeats` times; return their medians."""
    for measure in measurements.values():
        measure()
    return medians_without_warm_up(repeats, **measurements)


def medians_without_warm_up(repeats: int, **measurements: Callable[[], float]) -> dict[str, float]:
    """Run measurements in turn, `repeats` times, and return their medians.

    Measurements that start new processes each time need no warm-up.
    """
    values: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(repeats):
        for name, measure in measurements.items():
            values[name].append(measure())
    return {name: statistics.median(each) for name, each in values.items()}
