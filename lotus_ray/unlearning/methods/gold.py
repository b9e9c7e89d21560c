"""Gold standard: a model that never saw the forget set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.methods.from_scratch import FromScratch
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Gold(FromScratch):
    """Train on all but the forget set, by the recipe and the seed of the original.

    Args:
        training_seed: another seed for weights and order, for a second gold standard that shows
            how far two honest ones differ; None takes the original's.

    Source: the control row of every table that has one. Deviation: none.
    """

    name: ClassVar[str] = "gold"
    label: ClassVar[str] = "Gold Std"

    training_seed: int | None = None

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase an epoch."""
        yield from self.train(
            problem, problem.retain.union(problem.other_train), self.training_seed
        )
