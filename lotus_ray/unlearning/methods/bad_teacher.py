"""Bad Teacher: imitate a random network on the forget set, and the original on the retain set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.logits_cache import LogitsCache
from lotus_ray.unlearning.losses import kl_divergence
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class BadTeacher(Method):
    """Minimise KL(ỹ ‖ s(z_s)) with ỹ = l·s(z_bad) + (1 − l)·s(z_orig).

    l is 1 on forget rows and 0 on retain rows; s is the softmax at temperature 1. D_f and a fixed
    random part of D_r are shuffled together. z_bad are logits of a randomly initialised network in
    eval mode, never of a pretrained one.

    Args:
        epochs: passes over both sets.
        lr: learning rate of Adam.
        weight_decay: of Adam.
        retain_fraction: part of D_r that is used.

    Source: Chundawat et al. 2023; defaults of Spartalis et al. 2025. Deviation: KL is summed over
    classes, where the authors' code averages it: a factor K that Adam all but cancels. The part of
    D_r has its share of every class and is rounded to the nearest number, where theirs is drawn
    without regard to classes, and cut off. The code of the comparison does not shuffle: its batches
    hold D_f first, then D_r.
    """

    name: ClassVar[str] = "bad_teacher"
    label: ClassVar[str] = "Bad Teacher"
    version: ClassVar[int] = 2  # the part of D_r is rounded over the set, not in each class

    epochs: int = 10
    lr: float = 1e-4
    weight_decay: float = 0.0
    retain_fraction: float = 0.3

    @property
    def weight_copies(self) -> float:
        """Return 3: both averages of Adam, and the random network."""
        return 3.0

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch."""
        optimizer = Adam(
            problem.model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        retained = problem.retain.subset(self.retain_fraction, self.name)
        problem.original_logits.compute_missing(retained)
        samples = problem.forget.union(retained)
        bad = problem.random_logits(problem.forget)
        for epoch in range(self.epochs):
            yield Phase(
                batches=samples.shuffled(problem.batch_size, self.name, epoch),
                loss=_loss(problem, bad),
                optimizer=optimizer,
            )


def _loss(problem: Problem, bad: LogitsCache) -> Callable[[nn.Module, Batch], Tensor]:
    """Return the loss; `bad` holds logits of forget rows."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        # Each cache has NaN for the rows of the other, which are not selected.
        teacher = torch.where(batch.forget[:, None], bad(batch), problem.original_logits(batch))
        targets = functional.softmax(teacher, dim=1)
        return batch.mean(kl_divergence(targets, model(batch.images)))

    return loss
