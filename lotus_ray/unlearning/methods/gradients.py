"""Gradients of the cross-entropy in eval mode, which say how much each weight matters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.problem import Problem


def loss_share(model: nn.Module, batch: Batch) -> Tensor:
    """Compute this worker's share of the mean CE over a global batch, float []."""
    return batch.mean(cross_entropy(model(batch.images), batch.labels))


def gradient_share(problem: Problem, batch: Batch) -> list[Tensor]:
    """Compute this worker's share of ∇CE, the gradient of the mean CE over a global batch.

    Args:
        problem: its model is put in eval mode: no batch statistics, no dropout.
        batch: this worker's rows.

    Returns:
        One tensor per parameter, in the order and shapes of `problem.model.parameters()`. The sum
        over workers is the gradient.

    Raises:
        RuntimeError: a parameter takes no part in the output, as in googlenet and inception_v3.
    """
    model = problem.model.eval()
    return list(torch.autograd.grad(loss_share(model, batch), list(model.parameters())))
