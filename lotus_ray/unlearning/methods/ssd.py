"""SSD: dampen, once, the weights that matter more to the forget set than to all samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Batch, Phase, SampleSet
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.gradients import gradient_share
from lotus_ray.unlearning.problem import Problem

ROWS_AT_A_TIME = 16  # per-sample gradients are as large as the model, each


@dataclass(frozen=True)
class Ssd(Method):
    """Where I_f > α·I_D, set θ ← θ·min(λ·I_D / I_f, 1). One edit of the weights, no gradient step.

    I_f and I_D are the importance of each weight: the mean of squared gradients of CE in eval mode,
    over D_f and over D = D_f ∪ D_r.

    Args:
        alpha: α, how much more a weight must matter to D_f than to D.
        dampening: λ.
        importance: "batch" squares the mean gradient of each batch, as the authors do. "sample"
            squares the gradient of each sample, and does not depend on the batch size.

    Source: Foster et al. 2024 (SSD); defaults of Spartalis et al. 2025. Deviation: with "batch",
    batches of D mix forget and retain rows, whose gradients partly cancel: more weights are
    selected than by the authors' code, whose batches hold rows of one kind.
    """

    name: ClassVar[str] = "ssd"
    label: ClassVar[str] = "SSD"

    alpha: float = 10.0
    dampening: float = 1.0
    importance: str = "batch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.importance not in ("batch", "sample"):
            raise MethodError(f"importance '{self.importance}' is neither batch nor sample")

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Edit the weights and yield nothing."""
        measure = _batch_importance if self.importance == "batch" else _sample_importance
        of_all = measure(problem, problem.forget.union(problem.retain))
        of_forget = measure(problem, problem.forget)
        with torch.no_grad():
            for parameter, forget_importance, importance in zip(
                problem.model.parameters(), of_forget, of_all, strict=True
            ):
                parameter.mul_(self.factor(forget_importance, importance))
        yield from ()

    def factor(self, forget_importance: Tensor, importance: Tensor) -> Tensor:
        """Return the factor of each weight: 1 if the weight is not selected."""
        selected = forget_importance > self.alpha * importance
        ratio = (self.dampening * importance / forget_importance).clamp_max(1)
        return torch.where(selected, ratio, torch.ones_like(ratio))


def _batch_importance(problem: Problem, samples: SampleSet) -> list[Tensor]:
    """Return the mean over global batches of the squared mean gradient, for each parameter."""
    total = [torch.zeros_like(value) for value in problem.model.parameters()]
    batches = 0
    for batch in samples.shuffled(problem.batch_size, "ssd"):
        batches += 1
        for sum_, share in zip(total, gradient_share(problem, batch), strict=True):
            mean = problem.workers.sum(share)
            sum_.addcmul_(mean, mean)
    return [sum_ / batches for sum_ in total]


def _sample_importance(problem: Problem, samples: SampleSet) -> list[Tensor]:
    """Return the mean over samples of the squared gradient, for each parameter."""
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
    return [problem.workers.sum(value) / len(samples) for value in total.values()]
