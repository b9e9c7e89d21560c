"""Gradients of the cross-entropy in eval mode, which say how much each weight matters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lotus_ray.unlearning.contract import Batch, SampleSet
from lotus_ray.unlearning.methods.supervised import label_loss
from lotus_ray.unlearning.problem import Problem


def gradient_share(problem: Problem, batch: Batch) -> list[Tensor]:
    """Compute this worker's share of ∇CE, the gradient of the mean CE over a global batch.

    Args:
        problem: its model is put in eval mode: no batch statistics, no dropout.
        batch: this worker's rows.

    Returns:
        One tensor per parameter, in the order and shapes of `problem.model.parameters()`. The sum
        over workers is the gradient: 0 for a parameter that takes no part in the output.
    """
    model = problem.model.eval()
    parameters = list(model.parameters())
    return label_gradient(problem, batch, parameters)


def label_gradient(problem: Problem, batch: Batch, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Compute this worker's share of ∇CE as its model is, in parts where memory is short.

    Args:
        problem: its model is in the mode that the gradient is wanted in.
        batch: this worker's rows.
        parameters: to which the gradient is taken.

    Returns:
        One tensor per parameter; 0 for one that takes no part in the output.
    """

    def attempt(parts: Sequence[Batch]) -> list[Tensor]:
        total: list[Tensor] = []
        for part in parts:
            loss = label_loss(problem.model, part)
            shares = list(torch.autograd.grad(loss, parameters, materialize_grads=True))
            total = [a + b for a, b in zip(total, shares, strict=True)] if total else shares
        return total

    return problem.in_parts(batch, Batch.split, attempt)


def batch_fisher(problem: Problem, samples: SampleSet, *names: object) -> list[Tensor]:
    """Compute the mean over global batches of the squared gradient of their mean CE, in eval mode.

    Args:
        problem: its model is put in eval mode.
        samples: whose batches are squared.
        names: of the order of the samples.

    Returns:
        One tensor per parameter, the same on every worker.

    Source: the diagonal of the empirical Fisher matrix, as codes of unlearning compute it.
    Deviation: from the textbook, which squares the gradient of each sample.
    """
    total = [torch.zeros_like(value) for value in problem.model.parameters()]
    batches = 0
    for batch in samples.shuffled(problem.batch_size, *names):
        batches += 1
        for sum_, share in zip(total, gradient_share(problem, batch), strict=True):
            mean = problem.workers.sum(share)
            sum_.addcmul_(mean, mean)
    return [sum_ / max(batches, 1) for sum_ in total]
