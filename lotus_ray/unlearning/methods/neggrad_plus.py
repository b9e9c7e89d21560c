"""NegGrad+: descend on the retain set and ascend on the forget set in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.endless import endless
from lotus_ray.unlearning.methods.supervised import label_loss, sgd
from lotus_ray.unlearning.problem import Problem

Pair = tuple[Batch | None, Batch | None]  # retain and forget rows; None in another part


@dataclass(frozen=True)
class NegGradPlus(Method):
    """Minimise a·CE(B_r) − (1 − a)·CE(B_f), one step for each pair of batches.

    D_f is repeated until every batch of D_r has had a batch of D_f beside it.

    Args:
        epochs: passes over the retain set.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        retain_weight: a; closer to 1 for large sets (.9999).

    Source: Kurmanji et al. 2023; defaults of Spartalis et al. 2025. Deviation: each epoch starts a
    new cycle over D_f, and each pass over D_f has an order of its own, where the authors' code
    repeats the batches of the first pass. The code of the comparison is another method: it walks
    D_f and then D_r, and flips the gradient before `backward`, and so trains on D_f.
    """

    name: ClassVar[str] = "neggrad_plus"
    label: ClassVar[str] = "NegGrad+"
    version: ClassVar[int] = 2  # each epoch starts a new cycle, so that a run can restart there

    epochs: int = 10
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    retain_weight: float = 0.95

    @property
    def batches_held(self) -> int:
        """Return 2: a batch of D_r and one of D_f."""
        return 2

    def phases(self, problem: Problem) -> Iterator[Phase[Pair]]:
        """Yield one phase per epoch."""
        optimizer = sgd(problem.model, self)
        size = problem.batch_size
        for epoch in range(self.epochs):
            retained = problem.retain.shuffled(size, self.name, epoch)
            beside = endless(problem.forget, size, "neggrad_plus forget", epoch)
            yield Phase(
                batches=zip(retained, beside, strict=False),
                loss=_loss(self.retain_weight),
                optimizer=optimizer,
                split=_split,
            )


def _split(pair: Pair, most: int) -> list[Pair]:
    """Split a pair into parts of one kind of rows, unless both fit in one part."""
    retained, forgotten = pair
    assert retained is not None
    assert forgotten is not None
    if retained.total + forgotten.total <= most:
        return [pair]
    first: list[Pair] = [(part, None) for part in retained.split(most)]
    return first + [(None, part) for part in forgotten.split(most)]


def _loss(retain_weight: float) -> Callable[[nn.Module, Pair], Tensor]:
    def loss(model: nn.Module, pair: Pair) -> Tensor:
        shares = [
            weight * label_loss(model, batch)
            for weight, batch in zip((retain_weight, retain_weight - 1), pair, strict=True)
            if batch is not None
        ]
        return shares[0] if len(shares) == 1 else shares[0] + shares[1]

    return loss
