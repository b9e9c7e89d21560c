"""Original: the model before unlearning, the row that every other row starts from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.methods.from_scratch import FromScratch
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Original(FromScratch):
    """Train on all training samples; with `epochs=0`, keep the given weights.

    Source: the control row of every table. Deviation: none.
    """

    name: ClassVar[str] = "original"
    label: ClassVar[str] = "Original"

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase an epoch."""
        if self.epochs:
            yield from self.train(
                problem, problem.forget.union(problem.retain).union(problem.other_train)
            )
