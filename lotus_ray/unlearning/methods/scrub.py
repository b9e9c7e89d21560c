"""SCRUB: move away from the teacher on the forget set, stay with it on the retain set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy, kl_divergence
from lotus_ray.unlearning.method import NEWER, Method
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class Scrub(Method):
    """Alternate a max pass over D_f and a min pass over D_r.

    Max pass, in the first `msteps` epochs: minimise −T²·KL(p_t ‖ p_s) over D_f. Min pass, in every
    epoch: minimise γ·CE + α·T²·KL(p_t ‖ p_s) over D_r. p = s(z / T); the teacher t is the original.

    In the first max step student and teacher agree, so the gradient is 0, but for what batch
    normalisation over the batch makes of it. What is left is the weight decay, whatever its size:
    Adam divides it by its own magnitude and moves nearly each weight by −lr·sign(θ), 98.6 % of them
    where it was measured. `max_weight_decay: 0` takes that step away.

    Args:
        epochs: number of epochs.
        msteps: epochs with a max pass: 3 of 10, or 2 of 3.
        lr: learning rate of Adam.
        weight_decay: of Adam, in both passes.
        temperature: T.
        gamma: γ.
        alpha: α.
        max_weight_decay: of Adam in max passes; None takes `weight_decay`.
        lr_decay: after each of these epochs, counted from 1, `lr` is multiplied by
            `lr_decay_rate`. The authors take 3, 5 and 9.
        lr_decay_rate: factor.

    Source: Kurmanji et al. 2023 (SCRUB, without rewinding); defaults of Spartalis et al. 2025.
    Deviation: by default the learning rate does not decay. Both passes have one batch size, where
    the authors' code has two, and no average of weights over epochs is kept. The code of the
    comparison has the min pass first, a max pass in every epoch, α = 1, weight decay .1 but on
    CIFAR-100, and a teacher in training mode; and it trains a copy and returns the original
    unchanged.
    """

    name: ClassVar[str] = "scrub"
    label: ClassVar[str] = "SCRUB"
    positive: ClassVar[tuple[str, ...]] = ("temperature",)

    epochs: int = 10
    msteps: int = 3
    lr: float = 5e-4
    weight_decay: float = 5e-4
    temperature: float = 4.0
    gamma: float = 1.0
    alpha: float = 0.5
    max_weight_decay: float | None = field(default=None, metadata=NEWER)
    lr_decay: tuple[int, ...] = field(default=(), metadata=NEWER)
    lr_decay_rate: float = field(default=0.1, metadata=NEWER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(epoch < 1 for epoch in self.lr_decay):
            what = f"scrub: lr_decay is {list(self.lr_decay)}, and epochs are counted from 1"
            raise MethodError(what, where="lr_decay")

    @property
    def weight_copies(self) -> float:
        """Return 2: both averages of Adam."""
        return 2.0

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield a min phase per epoch, and a max phase before it in the first epochs."""
        problem.original_logits.compute_missing(problem.forget.union(problem.retain))
        optimizer = Adam(
            problem.model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        decay = self.weight_decay if self.max_weight_decay is None else self.max_weight_decay
        for epoch in range(self.epochs):
            rate = self.learning_rate(epoch)
            if epoch < self.msteps:
                optimizer.param_groups[0].update(lr=rate, weight_decay=decay)
                yield Phase(
                    batches=problem.forget.shuffled(problem.batch_size, self.name, "max", epoch),
                    loss=self._maximise(problem),
                    optimizer=optimizer,
                )
            # Looked up anew: after a restart the optimizer has the groups of its checkpoint.
            optimizer.param_groups[0].update(lr=rate, weight_decay=self.weight_decay)
            yield Phase(
                batches=problem.retain.shuffled(problem.batch_size, self.name, "min", epoch),
                loss=self._minimise(problem),
                optimizer=optimizer,
            )

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return self.lr * self.lr_decay_rate ** sum(after <= epoch for after in self.lr_decay)

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
