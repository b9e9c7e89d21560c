"""The loss of training on labels, and the optimizer, that many methods share."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.optim import SGD

from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.losses import cross_entropy


class Settings(Protocol):
    """Hyper-parameters of SGD, as methods name them."""

    @property
    def lr(self) -> float:
        """Learning rate."""

    @property
    def momentum(self) -> float:
        """Momentum, from 0 to 1."""

    @property
    def weight_decay(self) -> float:
        """Weight decay."""


def sgd(model: nn.Module, settings: Settings) -> SGD:
    """Return SGD over all parameters that train, with the settings of a method."""
    return SGD(
        (value for value in model.parameters() if value.requires_grad),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def label_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return this worker's share of the mean cross-entropy of a batch with its own labels."""
    return batch.mean(cross_entropy(model(batch.images), batch.labels))
