"""Gold standard: a model that never sees the forget set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.methods.from_scratch import FromScratch
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Gold(FromScratch):
    """Train on all samples but the forget set, with the recipe and the seed of the original.

    Args:
        training_seed: another seed of weights and order. A second gold standard shows how far two
            of them differ. None takes the original's.

    Source: Spartalis et al. 2025, the row Gold Std; recipe and its deviation: see `FromScratch`.
    """

    name: ClassVar[str] = "gold"
    label: ClassVar[str] = "Gold Std"

    training_seed: int | None = None

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch."""
        yield from self.train(
            problem, problem.retain.union(problem.other_train), self.training_seed
        )
