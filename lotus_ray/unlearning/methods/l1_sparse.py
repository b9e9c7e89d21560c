"""l1-sparse: train on the retain set while an L1 penalty pulls every weight towards 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class L1Sparse(Method):
    """Minimise CE(f(x), y) + γ_t·‖θ‖₁ over the retain set, with γ_t = γ·(1 − t/T) in epoch t of T.

    ‖θ‖₁ sums over all parameters, those of normalisation layers and biases too.

    Args:
        epochs: T, passes over the retain set.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        gamma: γ, weight of the penalty in the first epoch.

    Source: Jia et al. 2023 (l1-sparse MU), its linearly decaying γ. Deviation: the batch size is
    the job's, theirs is 256. The authors' code calls γ `alpha`, a name that it gives to the noise
    of Fisher Forgetting too, with another default.
    """

    name: ClassVar[str] = "l1_sparse"
    label: ClassVar[str] = "l1-sparse"

    epochs: int = 10
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    gamma: float = 5e-4

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch."""
        optimizer = sgd(problem.model, self)
        for epoch in range(self.epochs):
            gamma = self.gamma * (1 - epoch / self.epochs)
            yield Phase(
                batches=problem.retain.shuffled(problem.batch_size, self.name, epoch),
                loss=_loss(gamma),
                optimizer=optimizer,
                notes={"gamma": gamma},
            )


def _loss(gamma: float) -> Callable[[nn.Module, Batch], Tensor]:
    """Return the loss, in which rows have a share of the penalty each: so workers and parts do."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        norms = torch.stack([value.abs().sum() for value in model.parameters()])
        share = len(batch.rows) / batch.total
        return label_loss(model, batch) + gamma * share * norms.sum()

    return loss
