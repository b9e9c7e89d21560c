"""A network without this package: the time of a method is compared with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    blocks: Sequence[Sequence[str]] = ()  # of parameter names, from input to head
    _next_row: int = 0

    def run(self, passes: Iterable[Pass]) -> None:
        """Run only the passes. On a GPU, wait until they are done."""
        work = {TRAIN: self._train, TO_IMAGE: self._to_image, FORWARD: self._forward}
        work[TRAIN_LAST] = self._train
        for each in passes:
            self._set_up(each)
            for count in each.batches:
                work[each.kind](*self._batch(count))
        if self.images.is_cuda:
            torch.cuda.synchronize(self.images.device)

    def _set_up(self, each: Pass) -> None:
        """Put the network in the mode of a pass; of the last blocks alone, freeze the others."""
        self.model.train(each.kind in (TRAIN, TRAIN_LAST))
        last = {name for block in self.blocks[len(self.blocks) - each.last :] for name in block}
        for name, value in self.model.named_parameters():
            value.requires_grad_(each.kind != TRAIN_LAST or name in last)
        if each.kind == TRAIN_LAST:
            for module in self.model.modules():
                if not any(value.requires_grad for value in module.parameters()):
                    module.eval()

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
