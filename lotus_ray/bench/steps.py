"""A step of two workers in Ray Train beside the same step under torchrun."""

from __future__ import annotations

import os
import statistics

from lotus_ray.bench.scoreboard import Figure, medians_of_starts
from lotus_ray.bench.step_loop import STEPS, WORKERS, step_seconds, torchrun_step_seconds
from lotus_ray.cluster.train_function import train_function

AT_MOST = 1.01


def enough_cpus() -> bool:
    """Return whether each worker has a CPU of its own."""
    return len(os.sched_getaffinity(0)) >= WORKERS


def ray_step_seconds(steps: int) -> list[float]:
    """Return the seconds of each step inside Ray Train.

    Ray runs for this loop alone, so that what its own processes take is on its bill and not on
    torchrun's.
    """
    seconds: list[float] = train_function(step_seconds, WORKERS, steps=steps)
    return seconds


def measure(repeats: int, steps: int = STEPS) -> tuple[dict[str, Figure], dict[str, float]]:
    """Measure C6: the two take turns, each time with new processes, whose first steps warm up."""
    last: dict[str, float] = {}

    def ratio() -> float:
        last["torchrun"] = statistics.median(torchrun_step_seconds(steps))
        last["Ray Train"] = statistics.median(ray_step_seconds(steps))
        return last["Ray Train"] / last["torchrun"]

    found = medians_of_starts(repeats, ratio=ratio)["ratio"]
    about = f"Ray Train step ÷ torchrun step, {WORKERS} workers over gloo, median of {steps} steps"
    rates = {f"{name} step, last repeat, ms": 1000 * taken for name, taken in last.items()}
    return {"C6": Figure(about, found, AT_MOST, False, repeats)}, rates
