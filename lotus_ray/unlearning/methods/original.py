"""Original: the model before unlearning. Every other method starts from it."""

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

    Source: Spartalis et al. 2025, the row Original; recipe and its deviation: see `FromScratch`.
    """

    name: ClassVar[str] = "original"
    label: ClassVar[str] = "Original"

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch."""
        if self.epochs:
            yield from self.train(
                problem, problem.forget.union(problem.retain).union(problem.other_train)
            )
