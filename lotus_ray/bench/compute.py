"""The compute path beside its floors: methods, evaluation, masks, steps, cells; GPUs where any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from lotus_ray.base.errors import JobError, nearest
from lotus_ray.bench import gpu, mask, overhead, steps, unlearning
from lotus_ray.bench.scoreboard import Figure

MOST_STARTS = 3  # repeats of what starts a grid, or sorts for half a minute


@dataclass
class Report:
    """What was measured, and what was not and why."""

    figures: dict[str, Figure] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, measured: tuple[dict[str, Figure], dict[str, float]]) -> None:
        """Take over figures and rates."""
        self.figures |= measured[0]
        self.rates |= measured[1]


def measure(repeats: int, chosen: Sequence[str], say: Callable[[str], None]) -> Report:
    """Measure C6, C9, C10 and C11 of the scoreboard, floors, and with a GPU G1 to G4.

    Args:
        repeats: of each measurement.
        chosen: methods whose floors alone are wanted; none of them: everything.
        say: takes a line about what is being measured.

    Raises:
        JobError: there is no such method.
    """
    known = list(unlearning.methods())
    for name in chosen:
        if name not in known:
            raise JobError(
                f"there is no floor of a method '{name}'",
                where="--methods",
                nearest=nearest(name, known),
                next_command="lotus-ray list methods",
            )
    report = Report()
    say("methods and evaluation beside the bare network")
    report.add(unlearning.measure(chosen or known, repeats))
    if not chosen:
        _measure_the_rest(report, repeats, say)
    return report


def _measure_the_rest(report: Report, repeats: int, say: Callable[[str], None]) -> None:
    few = min(repeats, MOST_STARTS)
    say("SalUn's mask beside two sorts")
    report.add(mask.measure(few))
    if steps.enough_cpus():
        say("a step in Ray Train beside torchrun's")
        report.add(steps.measure(repeats))
    else:
        report.notes.append("C6 needs 2 CPUs, and this machine has 1: not measured")
    say("a small grid, for what its cells cost beyond their compute")
    report.add(overhead.measure(few))
    if torch.cuda.is_available():
        say("this GPU")
        figures, rates, notes = gpu.measure(repeats, torch.device("cuda"))
        report.add((figures, rates))
        report.notes += notes
    else:
        report.notes.append("G1 to G5 need a CUDA GPU, and here is none: not measured")
