"""NegGrad+: descend on the retain set and ascend on the forget set in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

from torch import Tensor, nn
from torch.optim import SGD

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem

Pair = tuple[Batch, Batch]


@dataclass(frozen=True)
class NegGradPlus(Method):
    """Minimise a·CE(B_r) − (1 − a)·CE(B_f) over pairs of batches, D_f cycled along D_r.

    Args:
        epochs: passes over the retain set.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        retain_weight: a; nearer to 1 for large sets (.9999).

    Source: Kurmanji et al. 2023; defaults of Spartalis et al. 2025. Deviation: none.
    """

    name: ClassVar[str] = "neggrad_plus"
    label: ClassVar[str] = "NegGrad+"
    version: ClassVar[int] = 2  # the cycle begins anew each epoch, so that a run can restart there

    epochs: int = 10
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    retain_weight: float = 0.95

    def phases(self, problem: Problem) -> Iterator[Phase[Pair]]:
        """Yield one phase an epoch."""
        optimizer = SGD(
            problem.model.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            fused=True,
        )
        for epoch in range(self.epochs):
            retained = problem.retain.shuffled(problem.batch_size, self.name, epoch)
            yield Phase(
                batches=zip(retained, _cycle(problem, epoch), strict=False),
                loss=_loss(self.retain_weight),
                optimizer=optimizer,
            )


def _cycle(problem: Problem, epoch: int) -> Iterator[Batch]:
    """Yield batches of the forget set for ever, each pass in a new order."""
    for turn in count():
        yield from problem.forget.shuffled(problem.batch_size, "neggrad_plus forget", epoch, turn)


def _loss(retain_weight: float) -> Callable[[nn.Module, Pair], Tensor]:
    def loss(model: nn.Module, pair: Pair) -> Tensor:
        retained, forgotten = (
            batch.mean(cross_entropy(model(batch.images), batch.labels)) for batch in pair
        )
        return retain_weight * retained - (1 - retain_weight) * forgotten

    return loss
