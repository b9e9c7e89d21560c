"""LoTUS: make the model as uncertain on the forget set as the original is on unseen images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import categorical_one_hot, gumbel_softmax, soft_cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.problem import Problem

STOP_AT = -0.01  # of forget accuracy minus unseen accuracy
LEAST_EXPONENT, LARGEST_EXPONENT = -80.0, 709.0  # of τ_d: logits / τ_d stay finite in float32


@dataclass(frozen=True)
class Lotus(Method):
    """Minimise −mean Σ_j t_j · log s(z_s)_j over D_f and a fixed random part of D_r.

    The targets t are the original's outputs; on forget rows they are smoothed at temperature
    τ_d = exp(α·(Acc(student, D_f) − Acc(original, D_u))): see `targets`. τ_d is computed before
    each epoch. Training stops when the difference of accuracies is at most −0.01.

    Args:
        epochs: the most epochs.
        lr: learning rate of AdamW.
        weight_decay: of AdamW.
        alpha: α, how strongly the difference of accuracies changes the temperature.
        retain_fraction: part of D_r that is used.
        variant: "gumbel", or "softmax" for the ablation without noise.
        class_unlearning: True to take Acc(original, D_u) as 0, if whole classes are forgotten.

    Source: Spartalis et al. 2025 (LoTUS). Deviation: accuracies are not rounded, where the
    authors' code rounds them to two decimals. The part of D_r has its share of every class and is
    rounded to the nearest number, where theirs is drawn without regard to classes, and cut off.
    """

    name: ClassVar[str] = "lotus"
    label: ClassVar[str] = "LoTUS"
    version: ClassVar[int] = 2  # the part of D_r is rounded over the set, not in each class

    epochs: int = 10
    lr: float = 1e-4
    weight_decay: float = 5e-4
    alpha: float = 2.0
    retain_fraction: float = 0.3
    variant: str = "gumbel"
    class_unlearning: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in VARIANTS:
            raise MethodError(f"variant '{self.variant}' is neither gumbel nor softmax")

    def temperature(self, forget_accuracy: float, unseen_accuracy: float) -> float:
        """Return τ_d = exp(α·(forget_accuracy − unseen_accuracy)), for accuracies in [0, 1].

        Raises:
            MethodError: it is too large for a number, or too small to divide by.
        """
        exponent = self.alpha * (forget_accuracy - unseen_accuracy)
        if not LEAST_EXPONENT <= exponent <= LARGEST_EXPONENT:
            raise MethodError(
                f"lotus: the temperature exp(alpha·Δ) with alpha {self.alpha:g} and Δ = "
                f"{forget_accuracy - unseen_accuracy:.4f} is too "
                f"{'large for a number' if exponent > 0 else 'small to divide by'}",
                where="alpha",
                nearest="1 … 32; the paper takes 2, 8 and 32",
                next_command="lotus-ray grid JOB.yaml, with a smaller alpha",
            )
        return math.exp(exponent)

    @property
    def weight_copies(self) -> float:
        """Return 2: both averages of AdamW."""
        return 2.0

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Yield one phase per epoch, until forgotten images are answered worse than unseen ones.

        Raises:
            MethodError: there is nothing to take an accuracy of, or see `temperature`.
        """
        self._check_sets(problem)
        optimizer = AdamW(
            problem.model.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        samples = problem.forget.union(problem.retain.subset(self.retain_fraction, "lotus"))
        problem.original_logits.compute_missing(samples)
        unseen_accuracy = 0.0
        if not self.class_unlearning:
            unseen_accuracy = problem.accuracy(problem.original, problem.calibration)
        for epoch in range(self.epochs):
            # The student starts as the original, whose logits are cached.
            student = problem.model if epoch else problem.original
            forget_accuracy = problem.accuracy(student, problem.forget)
            if forget_accuracy - unseen_accuracy <= STOP_AT:
                return
            tau = self.temperature(forget_accuracy, unseen_accuracy)
            yield Phase(
                batches=samples.shuffled(problem.batch_size, "lotus", epoch),
                loss=_loss(problem, VARIANTS[self.variant], tau, epoch),
                optimizer=optimizer,
                notes={
                    "tau": tau,
                    "forget_accuracy": forget_accuracy,
                    "unseen_accuracy": unseen_accuracy,
                },
            )

    def _check_sets(self, problem: Problem) -> None:
        """Raise MethodError if τ_d would be NaN: a set whose accuracy it needs is empty."""
        if not len(problem.forget):
            raise MethodError(
                "lotus: there is no image to forget",
                where="forget",
                nearest="forget: {fraction: 0.1}",
                next_command="lotus-ray validate JOB.yaml",
            )
        if not self.class_unlearning and not len(problem.calibration):
            raise MethodError(
                "lotus: no image is unseen, and its temperature needs the accuracy on such images",
                where="unseen, calibration",
                nearest="calibration: {manifest: data/FOLDER}, or class_unlearning: true",
                next_command="lotus-ray validate JOB.yaml",
            )


def targets(teacher_logits: Tensor, forget: Tensor, tau: float, uniform: Tensor) -> Tensor:
    """Compute the targets of the student.

    Forget rows: the Gumbel-softmax of z_t at temperature τ_d. Retain rows: a one-hot sample of
    s(z_t), the limit of the Gumbel-softmax as τ → 0⁺.

    Args:
        teacher_logits: z_t, float [N, C].
        forget: bool [N], True for forget rows.
        tau: τ_d.
        uniform: noise, float64 [N, C] in (0, 1).

    Returns:
        float [N, C], row-stochastic.

    Source: Spartalis et al. 2025. Deviation: none.
    """
    smoothed = gumbel_softmax(teacher_logits, tau, uniform)
    sampled = categorical_one_hot(teacher_logits, uniform)
    return torch.where(forget[:, None], smoothed, sampled)


def softmax_targets(teacher_logits: Tensor, forget: Tensor, tau: float, uniform: Tensor) -> Tensor:
    """Compute `targets` without noise: softmax at τ_d on forget rows, argmax on retain rows.

    Args:
        teacher_logits: z_t, float [N, C].
        forget: bool [N], True for forget rows.
        tau: τ_d.
        uniform: float64 [N, C]; only its shape is used.

    Returns:
        float [N, C], row-stochastic.

    Source: Spartalis et al. 2025, the ablation of Gumbel-softmax. Deviation: none.
    """
    equal = torch.full_like(uniform, 0.5)  # equal noise in every class changes no softmax
    return targets(teacher_logits, forget, tau, equal)


Targets = Callable[[Tensor, Tensor, float, Tensor], Tensor]
VARIANTS: dict[str, Targets] = {"gumbel": targets, "softmax": softmax_targets}


def _loss(
    problem: Problem, targets_of: Targets, tau: float, epoch: int
) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        uniform = problem.uniform(batch, problem.num_classes, "lotus", epoch)
        teacher = problem.original_logits(batch)
        student_targets = targets_of(teacher, batch.forget, tau, uniform)
        return batch.mean(soft_cross_entropy(model(batch.images), student_targets))

    return loss
