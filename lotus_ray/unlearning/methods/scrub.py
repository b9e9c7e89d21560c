"""SCRUB: move away from the teacher on the forget set, stay with it on the retain set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy, kl_divergence
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Scrub(Method):
    """Alternate a max pass over D_f and a min pass over D_r.

    Max pass, in the first `msteps` epochs: minimise −T²·KL(p_t ‖ p_s) over D_f. Min pass, in every
    epoch: minimise γ·CE + α·T²·KL(p_t ‖ p_s) over D_r. p = s(z / T); the teacher t is the original.
    In the first max step student and teacher agree, so the gradient is 0 (but for batch
    normalisation): Adam turns the weight decay into a step of −lr·sign(θ) for almost all weights.

    Args:
        epochs: number of epochs.
        msteps: epochs with a max pass: 3 of 10, or 2 of 3.
        lr: learning rate of Adam.
        weight_decay: of Adam, in both passes.
        temperature: T.
        gamma: γ.
        alpha: α.

    Source: Kurmanji et al. 2023 (SCRUB, without rewinding); defaults of Spartalis et al. 2025.
    Deviation: the learning rate does not decay, where the authors' code has `lr_decay`. The code of
    the comparison trains a copy and returns the original unchanged; this one does not.
    """

    name: ClassVar[str] = "scrub"
    label: ClassVar[str] = "SCRUB"

    epochs: int = 10
    msteps: int = 3
    lr: float = 5e-4
    weight_decay: float = 5e-4
    temperature: float = 4.0
    gamma: float = 1.0
    alpha: float = 0.5

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield a min phase per epoch, and a max phase before it in the first epochs."""
        problem.original_logits.compute_missing(problem.forget.union(problem.retain))
        optimizer = Adam(
            problem.model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        for epoch in range(self.epochs):
            if epoch < self.msteps:
                yield Phase(
                    batches=problem.forget.shuffled(problem.batch_size, self.name, "max", epoch),
                    loss=self._maximise(problem),
                    optimizer=optimizer,
                )
            yield Phase(
                batches=problem.retain.shuffled(problem.batch_size, self.name, "min", epoch),
                loss=self._minimise(problem),
                optimizer=optimizer,
            )

    def _maximise(self, problem: Problem) -> Callable[[nn.Module, Batch], Tensor]:
        def loss(model: nn.Module, batch: Batch) -> Tensor:
            return -batch.mean(self._distance(problem, batch, model(batch.images)))

        return loss

    def _minimise(self, problem: Problem) -> Callable[[nn.Module, Batch], Tensor]:
        def loss(model: nn.Module, batch: Batch) -> Tensor:
            logits = model(batch.images)
            distance = self._distance(problem, batch, logits)
            rows = self.gamma * cross_entropy(logits, batch.labels) + self.alpha * distance
            return batch.mean(rows)

        return loss

    def _distance(self, problem: Problem, batch: Batch, logits: Tensor) -> Tensor:
        """Return T²·KL(p_t ‖ p_s) for each row."""
        teacher = functional.softmax(problem.original_logits(batch) / self.temperature, dim=1)
        return self.temperature**2 * kl_divergence(teacher, logits / self.temperature)
