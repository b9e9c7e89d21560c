"""Boundary Shrink: give each forget image to the class across the nearest decision boundary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy, without_label
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.supervised import sgd
from lotus_ray.unlearning.problem import Problem


@dataclass(frozen=True)
class BoundaryShrink(Method):
    """Minimise CE(f(x), ỹ) over D_f alone, where ỹ is the class that the original sees across.

    ỹ is the original's answer to x + ε·sign(∇_x CE(f₀(x), y)), clamped to valid pixels. If the
    attack fails and the answer is y itself, ỹ is the runner-up there. Labels are computed once.

    Args:
        epochs: passes over the forget set.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        epsilon: ε, in units in which a black pixel is 0 and a white one is 1.

    Source: Chen et al. 2023 (Boundary Unlearning, CVPR), the Shrink variant. Deviation: where the
    attack fails the authors train x on its own label; the runner-up takes its place. Attacked
    images are not rounded to 256 levels. The batch size is the job's.
    """

    name: ClassVar[str] = "boundary_shrink"
    label: ClassVar[str] = "Boundary Shrink"

    epochs: int = 10
    lr: float = 1e-5
    momentum: float = 0.9
    weight_decay: float = 0.0
    epsilon: float = 0.1

    def phases(self, problem: Problem) -> Iterator[Phase[Batch]]:
        """Compute the labels, then yield one phase per epoch."""
        labels = nearest_labels(problem, self.epsilon)
        optimizer = sgd(problem.model, self)
        for epoch in range(self.epochs):
            yield Phase(
                batches=problem.forget.shuffled(problem.batch_size, self.name, epoch),
                loss=_loss(labels),
                optimizer=optimizer,
            )


def nearest_labels(problem: Problem, epsilon: float) -> Tensor:
    """Return the class across the nearest boundary, for each forget sample.

    Each sample is attacked on one worker, in a fixed order: a restart finds the same labels.

    Args:
        problem: its frozen original is attacked.
        epsilon: ε, as a part of the way from a black to a white pixel.

    Returns:
        int64 [rows of the table of roles]; 0 for samples that are not in the forget set.

    Source: Goodfellow et al. 2015 (FGSM); Chen et al. 2023. Deviation: see `BoundaryShrink`.
    """
    black, white = problem.pixel_range
    labels = torch.zeros(problem.num_rows, dtype=torch.int64, device=problem.device)
    rows_at_a_time = max(problem.batch_size // problem.workers.size, 1)  # as much as a step holds
    for batch in problem.forget:

        def attack(part: Tensor, batch: Batch = batch) -> None:
            images, own = batch.images[part], batch.labels[part]
            attacked = images + epsilon * (white - black) * _uphill(problem.original, images, own)
            with torch.inference_mode():
                answer = problem.original(attacked.clamp(black, white))
            labels[batch.rows[part]] = without_label(answer, own).argmax(dim=1)

        everyone = torch.arange(len(batch.rows), device=problem.device)
        problem.micro_batch.each(everyone, rows_at_a_time, attack)
    return problem.workers.sum(labels)


def _uphill(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the sign of the gradient of CE to the images, [N, 3, H, W]."""
    leaf = images.detach().requires_grad_()
    loss = cross_entropy(model(leaf), labels).sum()
    return torch.autograd.grad(loss, leaf)[0].sign()


def _loss(labels: Tensor) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return batch.mean(cross_entropy(model(batch.images), labels[batch.rows]))

    return loss
