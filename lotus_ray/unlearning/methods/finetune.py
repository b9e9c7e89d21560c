"""Finetuning: train on the retain set alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Finetune(Method):
    """Minimise CE(f(x), y) over the retain set.

    Args:
        epochs: passes over the retain set.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        head_only: True to train the layer that makes the logits alone, as a control.

    Source: Golatkar et al. 2020; defaults of Spartalis et al. 2025. Deviation: none.
    """

    name: ClassVar[str] = "finetune"
    label: ClassVar[str] = "Finetuning"

    epochs: int = 10
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_only: bool = False

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch."""
        if self.head_only:
            problem.model.requires_grad_(False).get_submodule(problem.head).requires_grad_(True)
        optimizer = sgd(problem.model, self)
        for epoch in range(self.epochs):
            yield Phase(
                batches=problem.retain.shuffled(problem.batch_size, "finetune", epoch),
                loss=label_loss,
                optimizer=optimizer,
            )
