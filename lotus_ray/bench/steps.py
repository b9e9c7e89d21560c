"""Compare a step of two workers in Ray Train with the same step under torchrun."""

from __future__ import annotations

import os
import statistics
import tempfile

from lotus_ray.bench.scoreboard import Measurements, Score
from lotus_ray.bench.step_loop import STEPS, WORKERS, step_seconds, torchrun_step_seconds
from lotus_ray.bench.timing import medians_without_warm_up
from lotus_ray.cluster.session import session
from lotus_ray.cluster.train_function import run_on_workers
from lotus_ray.cluster.worker_group import join_workers
from lotus_ray.job.schema.resources import Resources

MOST = 1.01  # Ray Train step ÷ torchrun step


def enough_cpus() -> bool:
    """Return True if there is one CPU per worker."""
    return len(os.sched_getaffinity(0)) >= WORKERS


def ray_step_seconds(steps: int) -> list[float]:
    """Return the seconds of each step inside Ray Train.

    Ray runs only during this loop, so its processes slow Ray's steps and not torchrun's.
    """

    def loop() -> list[float]:
        return step_seconds(*join_workers(), steps)

    with tempfile.TemporaryDirectory() as scratch, session():
        return run_on_workers(loop, Resources(workers=WORKERS), scratch)


def measure(repeats: int, steps: int = STEPS) -> Measurements:
    """Measure both in turn, each time in new processes. Their first steps warm up.

    Args:
        repeats: of each measurement.
        steps: per measurement.
    """
    last: dict[str, float] = {}

    def ratio() -> float:
        last["torchrun"] = statistics.median(torchrun_step_seconds(steps))
        last["Ray Train"] = statistics.median(ray_step_seconds(steps))
        return last["Ray Train"] / last["torchrun"]

    value = medians_without_warm_up(repeats, ratio=ratio)["ratio"]
    about = f"seconds of a Ray Train step ÷ torchrun's, {WORKERS} workers over gloo, {steps} steps"
    rates = {f"{name} step, last repeat, ms": 1000 * taken for name, taken in last.items()}
    score = Score("C6", about, value, MOST, False, repeats)
    return Measurements({"ray_step_time_vs_torchrun": score}, rates)
