"""Learning rates that depend on the step alone, so that a run can restart at any phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic

from torch.optim import Optimizer

from lotus_ray.unlearning.contract import Step
from lotus_ray.unlearning.progress import skip

# Share of all steps, and of the highest learning rate at that point; linear in between.
_ONE_CYCLE = ((0.0, 1 / 25), (0.3, 1.0), (0.85, 1 / 25), (1.0, 1 / 25e4))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Use a learning rate for all weights of an optimizer."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def cosine(step: int, steps: int, highest: float, lowest: float = 0.0) -> float:
    """Compute lowest + (highest − lowest)·(1 + cos(π·step/steps))/2.

    Args:
        step: counted from 0, where the rate is `highest`.
        steps: at which the rate would be `lowest`.
        highest: the first learning rate.
        lowest: the learning rate after the last step.

    Source: Loshchilov & Hutter 2017, without restarts. Deviation: none.
    """
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * step / steps)) / 2


def one_cycle(step: int, steps: int, highest: float) -> float:
    """Compute a rate that rises to `highest` at .3 of all steps, and falls until the last one.

    Args:
        step: counted from 0.
        steps: number of steps.
        highest: the highest learning rate.

    Source: Smith 2018, with the corners of the code of certified noise. Deviation: none.
    """
    share = step / steps
    for (start, low), (end, high) in pairwise(_ONE_CYCLE):
        if share <= end:
            return highest * (low + (high - low) * (share - start) / (end - start))
    return highest * _ONE_CYCLE[-1][1]


@dataclass(frozen=True)
class Scheduled(Generic[Step]):
    """Batches that set the learning rate of an optimizer, each before its own step."""

    batches: Iterable[Step]
    optimizer: Optimizer
    rate: Callable[[int], float]  # of a step, counted from 0 over all phases
    first_step: int = 0  # number of the first batch

    def __iter__(self) -> Iterator[Step]:
        for step, batch in enumerate(self.batches, self.first_step):
            set_learning_rate(self.optimizer, self.rate(step))
            yield batch

    def after(self, count: int) -> Iterator[Step]:
        """Return an iterator that leaves out the first `count` batches, and sets no rate for them.

        For a run that goes on from a checkpoint within a phase.
        """
        left = skip(self.batches, count)
        return iter(replace(self, batches=left, first_step=self.first_step + count))
