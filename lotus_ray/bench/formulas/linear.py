"""A linear softmax classifier whose gradients are written out: z = W·x + b, p = softmax(z).

Nothing here knows of the losses, the methods or the optimizers that it is compared with.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch, SampleSet
from lotus_ray.unlearning.problem import Problem

Weights = list[Tensor]  # W [C, D] and b [C]; gradients have the same shapes


def start(problem: Problem) -> Weights:
    """Return a copy of the original's weights, which a formula begins with."""
    return weights_of(problem.original)


def weights_of(model: nn.Module) -> Weights:
    """Return a copy of a network's weights, in their order."""
    return [value.detach().clone() for value in model.parameters()]


def cycle(samples: SampleSet, size: int, *names: object) -> Iterator[Batch]:
    """Yield batches without end; (*names, number of the pass) decide the order of each pass."""
    for turn in count():
        yield from samples.shuffled(size, *names, turn)


def logits(weights: Weights, images: Tensor) -> Tensor:
    """Return z, [N, C], for images [N, 3, H, W]."""
    return images.flatten(1) @ weights[0].T + weights[1]


def softmax(z: Tensor) -> Tensor:
    """Return p, [N, C]."""
    powers = torch.exp(z - z.max(dim=1, keepdim=True).values)
    return powers / powers.sum(dim=1, keepdim=True)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return Y, float64 [N, C]: 1 at each row's label."""
    return torch.eye(classes, dtype=torch.float64)[labels]


def gradient(slopes: Tensor, images: Tensor) -> Weights:
    """Return ∂L/∂W and ∂L/∂b from ∂L/∂z, [N, C]."""
    return [slopes.T @ images.flatten(1), slopes.sum(dim=0)]


def label_slopes(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
    """Return ∂L/∂z = (p − Y)/N, [N, C], of the mean cross-entropy."""
    p = softmax(logits(weights, images))
    return (p - one_hot(labels, p.shape[1])) / len(labels)


def label_gradient(weights: Weights, batch: Batch, labels: Tensor | None = None) -> Weights:
    """Return the gradient of the mean cross-entropy, to a batch's own labels or to others."""
    labels = batch.labels if labels is None else labels
    return gradient(label_slopes(weights, batch.images, labels), batch.images)


def accuracy(weights: Weights, samples: SampleSet) -> float:
    """Return the share of samples whose largest logit is that of their label."""
    hits = [logits(weights, batch.images).argmax(dim=1) == batch.labels for batch in samples]
    return float(torch.cat(hits).double().mean())


def normal(uniform: Tensor) -> Tensor:
    """Turn uniform numbers in (0, 1) into normal ones: Φ⁻¹(u)."""
    result: Tensor = torch.special.ndtri(uniform)
    return result


def plus(*terms: tuple[float, Weights]) -> Weights:
    """Return a sum of weights or gradients, each times a number."""
    return [
        torch.stack([factor * value for (factor, _), value in zip(terms, values, strict=True)]).sum(
            dim=0
        )
        for values in zip(*(weights for _, weights in terms), strict=True)
    ]


def dot(one: Weights, other: Weights) -> float:
    """Return the scalar product of all entries together."""
    return float(sum((a * b).sum() for a, b in zip(one, other, strict=True)))


def clipped(gradients: Weights, most: float) -> Weights:
    """Return gradients of an L2 norm of `most`, where theirs is larger.

    The norm has torch's 1e-6 on top.
    """
    return plus((min(1.0, most / (dot(gradients, gradients) ** 0.5 + 1e-6)), gradients))
