"""Compute beside its floors: methods, evaluation, masks, steps, cells, and a GPU if any."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lotus_ray.base.errors import JobError, nearest
from lotus_ray.bench import gpu, mask, overhead, steps, unlearning
from lotus_ray.bench.scoreboard import Measurements

MOST_STARTS = 3  # repeats of benchmarks that start a grid, or sort for half a minute


def measure(repeats: int, chosen: Sequence[str], say: Callable[[str], None]) -> Measurements:
    """Measure everything but the data path.

    Args:
        repeats: of each measurement.
        chosen: measure only these methods and the evaluation; empty measures everything.
        say: prints a line about the next measurement.

    Raises:
        JobError: there is no such method.
    """
    names = list(unlearning.methods())
    for name in chosen:
        if name not in names:
            raise JobError(
                f"there is no floor of a method '{name}'",
                where="--methods",
                nearest=nearest(name, names),
                next_command="lotus-ray list methods",
            )
    say("methods and evaluation beside the bare network")
    measured = unlearning.measure(chosen or names, repeats)
    if not chosen:
        _measure_the_rest(measured, repeats, say)
    return measured


def _measure_the_rest(measured: Measurements, repeats: int, say: Callable[[str], None]) -> None:
    """Add the measurements that do not depend on the chosen methods."""
    few = min(repeats, MOST_STARTS)
    say("SalUn's mask beside two sorts")
    measured.add(mask.measure(few))
    if steps.enough_cpus():
        say("a step in Ray Train beside torchrun's")
        measured.add(steps.measure(repeats))
    else:
        measured.notes.append("a step in Ray Train needs 2 CPUs, and this machine has 1")
    say("the overhead of cells in a small grid")
    measured.add(overhead.measure(few))
    if torch.cuda.is_available():
        say("this GPU")
        measured.add(gpu.measure(repeats, torch.device("cuda")))
    else:
        measured.notes.append(f"the benchmark of a GPU {gpu.NO_GPU}")
