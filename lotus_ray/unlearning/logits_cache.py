"""The logits of a frozen network, computed once for each sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch, SampleSet, Workers


class LogitsCache:
    """Logits of a frozen network: each sample's are computed once, before they are asked for.

    This is valid because images are transformed deterministically and the network is in eval mode.
    Logits are computed in the order of a sample set, not of an epoch: another batch may round
    differently, and a run that goes on from a checkpoint meets other batches first.
    """

    def __init__(self, model: nn.Module, num_rows: int, num_classes: int, workers: Workers) -> None:
        self._model = model
        self._workers = workers
        like = next(model.parameters())
        # [1 + n, C]: row 0 is NaN and stands for samples that are not cached, so a loss that asks
        # for one of them diverges and no step has to check.
        self._logits = like.new_full((1, num_classes), torch.nan)
        self._position = torch.zeros(num_rows, dtype=torch.int64, device=like.device)

    @property
    def cached_rows(self) -> Tensor:
        """Rows whose logits are cached, int64 [n]."""
        return self._position.nonzero()[:, 0]

    def add(self, rows: Tensor, logits: Tensor) -> None:
        """Add logits [n, C] of `rows`, int64 [n], that were computed before."""
        rows = rows.to(self._position.device)
        self._position[rows] = len(self._logits) + torch.arange(len(rows), device=rows.device)
        self._logits = torch.cat([self._logits, logits.to(self._logits)])

    def compute_missing(self, samples: SampleSet) -> None:
        """Compute the logits of samples that are not cached: each on one worker, for all workers.

        Every worker must call this.
        """
        missing = samples.without(self.cached_rows)
        if not len(missing):
            return
        parts = [(torch.zeros_like(self._position[:0]), self._logits[:0])]
        with torch.inference_mode():
            parts += [(batch.rows, self._model(batch.images)) for batch in missing]
        own_rows, own_logits = (torch.cat(part) for part in zip(*parts, strict=True))
        self.add(*self._workers.gather(len(self._position), own_rows, own_logits))

    def set_default(self, logits: Tensor) -> None:
        """Use logits [C] for every sample that is not cached."""
        self._logits[0] = logits

    def of(self, rows: Tensor) -> Tensor:
        """Return logits [n, C] of `rows`, int64 [n]; NaN for rows that are not cached."""
        return self._logits[self._position[rows]]

    def __call__(self, batch: Batch) -> Tensor:
        """Return logits [N, C] of a batch of cached samples."""
        return self.of(batch.rows)


def constant_logits(model: nn.Module, head: str, image: Tensor) -> Tensor | None:
    """Return the logits [C] of a network that gives every image the same ones, or None.

    A fresh Vision Transformer of torchvision is such a network: the weights of its head start at 0.

    Args:
        model: a frozen network.
        head: the name of the layer that makes its logits.
        image: [1, 3, H, W]. Its logits have to be the bias of the head.
    """
    layer = model.get_submodule(head)
    assert isinstance(layer.weight, Tensor)
    if bool(layer.weight.any()):
        return None
    with torch.no_grad():
        answer: Tensor = model(image)[0]
        bias = layer.bias if isinstance(layer.bias, Tensor) else torch.zeros_like(answer)
        return answer if torch.equal(answer, bias) else None
