"""Gradients of the cross-entropy in eval mode, for methods that weigh parameters by them."""

from __future__ import annotations

import torch
from torch import Tensor

from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.problem import Problem


def gradient_share(problem: Problem, batch: Batch) -> list[Tensor]:
    """Compute this worker's share of the gradient of the mean CE over a global batch.

    Args:
        problem: its model is put in eval mode, so that statistics and dropout play no part.
        batch: this worker's rows.

    Returns:
        One tensor a parameter, in the order of `problem.model.parameters()`; the sum over
        workers is the gradient.
    """
    model = problem.model.eval()
    loss = batch.mean(cross_entropy(model(batch.images), batch.labels))
    return list(torch.autograd.grad(loss, list(model.parameters())))
