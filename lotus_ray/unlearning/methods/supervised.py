"""The loss of training on labels, which many methods share."""

from __future__ import annotations

from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.losses import cross_entropy


def label_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return this worker's share of the mean cross-entropy of a batch with its own labels."""
    return batch.mean(cross_entropy(model(batch.images), batch.labels))
