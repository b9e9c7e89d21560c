"""SSD: dampen, once, the weights that matter more to the forget set than to all samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.optim import SGD

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase, SampleSet
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.gradients import gradient_share
from lotus_ray.unlearning.methods.supervised import label_loss
from lotus_ray.unlearning.problem import Problem

ROWS_AT_A_TIME = 16  # per-sample gradients are as large as the model, each


@dataclass(frozen=True)
class Ssd(Method):
    """Where I_f > α·I_D, set θ ← θ·min(λ·I_D / I_f, 1). One edit of the weights, no gradient step.

    I_f and I_D are the importance of each weight: the mean of squared gradients of CE in eval mode,
    over D_f and over D = D_f ∪ D_r. So I_D ≥ s·I_f, where s is the share of D_f in D: nothing can
    be selected where α·s ≥ 1. With α = 10, as in the published tables, this holds from 10 % of D
    on: the published rows at 10 % and at 50 % are no-ops, or close to it. Each row says how many
    weights were dampened, and the report says where none could be.

    Args:
        alpha: α, how much more a weight must matter to D_f than to D.
        dampening: λ.
        importance: "batch" squares the mean gradient of each batch, as the authors do: s is the
            share of batches. "sample" squares the gradient of each sample, and does not depend on
            the batch size.

    Source: Foster et al. 2024 (SSD); defaults of Spartalis et al. 2025. Deviation: no batch mixes
    D_f and D_r, where one batch of the authors' code does: that in which one set ends and the other
    begins. Batches are shuffled and of even size. The code of the comparison makes the edit anew in
    each epoch; this one makes it once.
    """

    name: ClassVar[str] = "ssd"
    label: ClassVar[str] = "SSD"
    version: ClassVar[int] = 2  # batches of D hold rows of D_f or of D_r alone

    alpha: float = 10.0
    dampening: float = 1.0
    importance: str = "batch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.importance not in ("batch", "sample"):
            raise MethodError(f"importance '{self.importance}' is neither batch nor sample")

    @property
    def weight_copies(self) -> float:
        """Return 3: two sums of squares, and a gradient."""
        return 3.0

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Edit the weights, and yield one phase without steps that says what was done.

        Its notes: `dampened`, how many weights were made smaller; `weights`, of how many; and
        `forget_share`, s. Within SalUn, weights outside its mask count too.
        """
        size = problem.batch_size
        counted = (
            [len(problem.forget), len(problem.retain)]
            if self.importance == "sample"
            else [math.ceil(len(samples) / size) for samples in (problem.forget, problem.retain)]
        )
        yield Phase(
            batches=(),
            loss=label_loss,
            optimizer=SGD(problem.model.parameters(), lr=0.0),
            notes={
                "dampened": problem.journal.answer(lambda: self._dampen(problem, *counted)),
                "weights": sum(value.numel() for value in problem.model.parameters()),
                "forget_share": counted[0] / sum(counted),
            },
        )

    def _dampen(self, problem: Problem, of_forget: int, of_retain: int) -> int:
        """Edit the weights; return how many are dampened.

        Args:
            problem: its model is changed.
            of_forget: batches or samples of D_f.
            of_retain: those of D_r.
        """
        squares = _of_batches if self.importance == "batch" else _of_samples
        sums = squares(problem, problem.forget), squares(problem, problem.retain)
        dampened = 0
        with torch.no_grad():
            for parameter, forget, retain in zip(problem.model.parameters(), *sums, strict=True):
                of_all = (forget + retain) / (of_forget + of_retain)
                factor = self.factor(forget / of_forget, of_all)
                parameter.mul_(factor)
                dampened += int((factor < 1).sum())
        return dampened

    def factor(self, forget_importance: Tensor, importance: Tensor) -> Tensor:
        """Return the factor of each weight: 1 if the weight is not selected."""
        selected = forget_importance > self.alpha * importance
        ratio = (self.dampening * importance / forget_importance).clamp_max(1)
        return torch.where(selected, ratio, torch.ones_like(ratio))


def _of_batches(problem: Problem, samples: SampleSet) -> list[Tensor]:
    """Return the sum over global batches of the squared mean gradient, for each parameter."""
    total = [torch.zeros_like(value) for value in problem.model.parameters()]
    for batch in samples.shuffled(problem.batch_size, "ssd"):
        for sum_, share in zip(total, gradient_share(problem, batch), strict=True):
            mean = problem.workers.sum(share)
            sum_.addcmul_(mean, mean)
    return total


def _of_samples(problem: Problem, samples: SampleSet) -> list[Tensor]:
    """Return the sum over samples of the squared gradient, for each parameter."""
    model = problem.model.eval()
    state = {name: value.detach() for name, value in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (parameters, buffers), (image[None],))
        return cross_entropy(logits, label[None])[0]

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(value) for name, value in state.items()}
    for batch in samples:
        for start in range(0, len(batch.rows), ROWS_AT_A_TIME):
            part = slice(start, start + ROWS_AT_A_TIME)
            by_name = gradients(state, batch.images[part], batch.labels[part])
            for name, rows in by_name.items():
                total[name] += rows.square().sum(dim=0)
    return [problem.workers.sum(value) for value in total.values()]
