"""A network without this package: the time of a method is compared with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lotus_ray.job.passes import FORWARD, TO_IMAGE, TRAIN, TRAIN_LAST, Pass


@dataclass
class BareNetwork:
    """A network, and images in memory that are used again and again."""

    model: nn.Module
    images: Tensor  # [n, 3, H, W], normalised
    labels: Tensor  # [n], int64
    _next_row: int = 0

    def run(self, passes: Iterable[Pass]) -> None:
        """Run only the passes. On a GPU, wait until they are done."""
        work = {TRAIN: self._train, TO_IMAGE: self._to_image, FORWARD: self._forward}
        work[TRAIN_LAST] = self._forward
        for each in passes:
            self.model.train(each.kind == TRAIN)
            for count in each.batches:
                work[each.kind](*self._batch(count))
        if self.images.is_cuda:
            torch.cuda.synchronize(self.images.device)

    def _batch(self, count: int) -> tuple[Tensor, Tensor]:
        if self._next_row + count > len(self.images):
            self._next_row = 0
        rows = slice(self._next_row, self._next_row + count)
        self._next_row += count
        return self.images[rows], self.labels[rows]

    def _train(self, images: Tensor, labels: Tensor) -> None:
        self.model.zero_grad(set_to_none=True)
        functional.cross_entropy(self.model(images), labels).backward()  # type: ignore[no-untyped-call]

    def _to_image(self, images: Tensor, labels: Tensor) -> None:
        leaf = images.detach().requires_grad_()
        torch.autograd.grad(functional.cross_entropy(self.model(leaf), labels), leaf)

    def _forward(self, images: Tensor, labels: Tensor) -> None:
        with torch.inference_mode():
            self.model(images)
