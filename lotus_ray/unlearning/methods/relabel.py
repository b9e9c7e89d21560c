"""Rnd Labeling: train the forget set on wrong labels, then the retain set on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy, wrong_labels
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Relabel(Method):
    """Minimise CE(f(x), ỹ) over D_f, then CE(f(x), y) over D_r, each epoch.

    ỹ is uniform over the K − 1 wrong classes. (seed, epoch, sample id) decide it.

    Args:
        epochs: each is a pass over D_f and a pass over D_r.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.

    Source: Golatkar et al. 2020; Graves et al. 2021; defaults of Spartalis et al. 2025.
    Deviation: labels are drawn anew in each epoch and the two sets take turns, as in the code of
    the comparison; Graves et al. draw each label once and train on both sets together.
    """

    name: ClassVar[str] = "relabel"
    label: ClassVar[str] = "Rnd Labeling"

    epochs: int = 10
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield two phases per epoch: forget set, retain set."""
        optimizer = sgd(problem.model, self)
        for epoch in range(self.epochs):
            yield Phase(
                batches=problem.forget.shuffled(problem.batch_size, self.name, "forget", epoch),
                loss=_wrong(problem, epoch),
                optimizer=optimizer,
            )
            yield Phase(
                batches=problem.retain.shuffled(problem.batch_size, self.name, "retain", epoch),
                loss=label_loss,
                optimizer=optimizer,
            )


def _wrong(problem: Problem, epoch: int) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        uniform = problem.uniform(batch, 1, "relabel", epoch)[:, 0]
        labels = wrong_labels(batch.labels, uniform, problem.num_classes)
        return batch.mean(cross_entropy(model(batch.images), labels))

    return loss
