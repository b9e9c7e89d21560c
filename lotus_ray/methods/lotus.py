"""LoTUS: make the model as uncertain on the forget set as the original is on unseen images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from lotus_ray.losses import categorical_one_hot, gumbel_softmax, soft_cross_entropy
from lotus_ray.problem import Batch, Method, Phase, Problem

STOP_AT = -0.01  # of forget accuracy minus unseen accuracy


@dataclass(frozen=True)
class Lotus(Method):
    """Distil the original into the student, smoothing its forget-set outputs by τ_d.

    Once an epoch τ_d = exp(α·(Acc(student, D_f) − Acc(original, D_u))), from unrounded
    accuracies; training stops when the difference is at most −0.01. L = −mean Σ target · log s(z_s)
    over D_f and a fixed random part of D_r; see `targets`.

    Args:
        epochs: at most so many.
        lr: learning rate of AdamW.
        weight_decay: of AdamW.
        alpha: α, how strongly the accuracy difference sets the temperature.
        retain_fraction: part of D_r that is used.

    Source: Spartalis et al. 2025. Deviation: none.
    """

    name: ClassVar[str] = "lotus"
    label: ClassVar[str] = "LoTUS"

    epochs: int = 10
    lr: float = 1e-4
    weight_decay: float = 5e-4
    alpha: float = 2.0
    retain_fraction: float = 0.3

    def temperature(self, forget_accuracy: float, unseen_accuracy: float) -> float:
        """Return τ_d = exp(α·(forget_accuracy − unseen_accuracy))."""
        return math.exp(self.alpha * (forget_accuracy - unseen_accuracy))

    def phases(self, problem: Problem) -> Iterator[Phase]:
        """Yield one phase an epoch until the student is as inaccurate as on unseen images."""
        optimizer = AdamW(problem.model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        samples = problem.forget.union(problem.retain.subset(self.retain_fraction, "lotus"))
        unseen_accuracy = problem.accuracy(problem.original, problem.unseen)
        for epoch in range(self.epochs):
            forget_accuracy = problem.accuracy(problem.model, problem.forget)
            if forget_accuracy - unseen_accuracy <= STOP_AT:
                return
            tau = self.temperature(forget_accuracy, unseen_accuracy)
            yield Phase(
                batches=samples.shuffled(problem.batch_size, "lotus", epoch),
                loss=_loss(problem, tau, epoch),
                optimizer=optimizer,
                notes={
                    "tau": tau,
                    "forget_accuracy": forget_accuracy,
                    "unseen_accuracy": unseen_accuracy,
                },
            )


def targets(teacher_logits: Tensor, forget: Tensor, tau: float, uniform: Tensor) -> Tensor:
    """Return what the student should answer.

    Forget rows: Gumbel-softmax of the teacher's logits at temperature τ_d. Retain rows: a one-hot
    sample of the teacher's distribution (its limit as τ → 0⁺).

    Args:
        teacher_logits: z_t, float [N, C].
        forget: bool [N].
        tau: τ_d.
        uniform: noise, float64 [N, C] in (0, 1).

    Returns:
        float [N, C], row-stochastic.

    Source: Spartalis et al. 2025. Deviation: none.
    """
    smoothed = gumbel_softmax(teacher_logits, tau, uniform)
    sampled = categorical_one_hot(teacher_logits, uniform)
    return torch.where(forget[:, None], smoothed, sampled)


def _loss(problem: Problem, tau: float, epoch: int) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        uniform = problem.uniform(batch, "lotus", epoch)
        wanted = targets(problem.original_logits(batch), batch.forget, tau, uniform)
        return batch.mean(soft_cross_entropy(model(batch.images), wanted))

    return loss
