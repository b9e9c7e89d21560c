"""Whether each method does what its definition says: passes, steps, formula, and moved weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lotus_ray.bench.formulas import agreement
from lotus_ray.bench.generated import Sizes, Stage, build
from lotus_ray.bench.unlearning import methods, samples_of
from lotus_ray.job.floors import needed
from lotus_ray.job.passes import FORWARD, Pass, Samples, forwards
from lotus_ray.metrics.change import weight_change
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.forward_counter import (
    BACKWARDS,
    STUDENT,
    TEACHER,
    TEACHER_BACKWARDS,
    ForwardCounter,
)
from lotus_ray.unlearning.method import Method

EPOCHS = 2
MOST_APART = 1e-9  # of a method and its formula, whose numbers are rounded otherwise
SIZES = Sizes(
    model="resnet18_cifar",
    options={"width": 4},
    img_size=8,
    classes=3,
    forget=8,
    retain=16,
    unseen=8,
    test=8,
    batch_size=16,
)


@dataclass(frozen=True)
class Conformance:
    """What one method was seen to do on a small generated problem, beside its definition."""

    name: str
    label: str
    steps: int  # of optimizers
    forwards: int  # images that went forward, through the model and its teachers
    forwards_needed: int
    backwards: int  # images that went backward, to weights or to images
    backwards_needed: int
    relative_distance: float  # ‖θ − θ_original‖ / ‖θ_original‖
    weights_moved: float  # share of weights that are not the original's
    agreement: float | None  # max |θ − θ_formula| / max |θ_formula|; None: no formula is written
    deviation: str  # from the source, as the method's docstring says it

    @property
    def is_met(self) -> bool:
        """True if passes are those needed, and weights those of the formula, and changed."""
        is_lean = self.forwards <= self.forwards_needed and self.backwards <= self.backwards_needed
        agrees = self.agreement is not None and self.agreement <= MOST_APART
        return is_lean and agrees and self.weights_moved > 0


def check() -> Iterator[Conformance]:
    """Run each method that unlearns for two epochs, on the CPU in float64, and yield its line.

    One thread does it: on networks this small, threads wait for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stage = build(SIZES, torch.device("cpu"), precision="fp64").compute_logits()
        samples = samples_of(stage)
        for name, method in methods(EPOCHS).items():
            yield _line(name, method, stage, samples)
    finally:
        torch.set_num_threads(threads)


def _line(name: str, method: Method, stage: Stage, samples: Samples) -> Conformance:
    """Run one method, count what it does, and compare with what it needs."""
    passes = needed(method, samples)
    with ForwardCounter().counting() as counted:
        problem = stage.problem(counted)
        records = unlearn(method, problem)
    change = weight_change(problem.model, stage.original)
    return Conformance(
        name=name,
        label=method.label,
        steps=sum(len(record.losses) for record in records),
        forwards=counted.images[STUDENT] + counted.images[TEACHER],
        forwards_needed=forwards(passes),
        backwards=counted.images[BACKWARDS] + counted.images[TEACHER_BACKWARDS],
        backwards_needed=_backwards(passes),
        relative_distance=change["relative_distance"],
        weights_moved=change["weights_moved"],
        agreement=agreement(method),
        deviation=deviation_of(type(method)),
    )


def _backwards(passes: list[Pass]) -> int:
    return forwards(each for each in passes if each.kind != FORWARD)


def deviation_of(method: type[Method]) -> str:
    """Return what a method's docstring says after `Deviation:`, on one line; empty if nothing."""
    found = re.search(r"Deviation:(.*)", inspect.getdoc(method) or "", re.DOTALL)
    return " ".join(found[1].split()) if found else ""


HEADINGS = ("Method", "Steps", "Forwards", "Backwards", "Distance", "Moved", "Formula")


def to_text(lines: Sequence[Conformance]) -> str:
    """Return the sheet for a terminal: a line for each method, and its deviations below."""
    rows = [HEADINGS, *map(_cells, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])])
        for cells in rows
    ]
    deviations = [f"{line.name}: {line.deviation}" for line in lines]
    legend = (
        "Images that went forward and backward, of those that the definition needs. "
        "Formula: how far weights are\nfrom those of an independent calculation, as a part of the "
        "largest of these; - where there is none."
    )
    return "\n".join(
        [table[0], "-" * len(table[0]), *table[1:], legend, "", "Deviations", *deviations]
    )


def _cells(line: Conformance) -> tuple[str, ...]:
    return (
        line.name,
        str(line.steps),
        f"{line.forwards} of {line.forwards_needed}",
        f"{line.backwards} of {line.backwards_needed}",
        f"{line.relative_distance:.1e}",
        f"{line.weights_moved:.3f}",
        "-" if line.agreement is None else f"{line.agreement:.1e}",
    )
