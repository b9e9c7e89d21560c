"""How many images go through which network, counted where they do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

STUDENT, TEACHER = "student_forwards", "teacher_forwards"
BACKWARDS = "student_backwards"


@dataclass
class ForwardCounter:
    """Counts images, by name; what is watched is watched until the block of `counting` ends."""

    images: Counter[str] = field(default_factory=Counter)
    _handles: list[RemovableHandle] = field(default_factory=list)

    def watch(self, model: nn.Module, name: str) -> nn.Module:
        """Count the images of each call of a module; return it."""

        @torch.compiler.disable  # type: ignore[untyped-decorator] # it is Python's to count
        def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            images = _count(inputs[0])
            self.images[name] += images
            if name == STUDENT and torch.is_grad_enabled():  # what is recorded is gone back through
                self.images[BACKWARDS] += images

        self._handles.append(model.register_forward_pre_hook(count))
        return model

    @contextmanager
    def counting(self) -> Iterator[ForwardCounter]:
        """Stop watching at the end of the block."""
        try:
            yield self
        finally:
            for handle in self._handles:
                handle.remove()


def _count(images: Tensor) -> int:
    """Return the images of a batch [N, 3, H, W], those under torch.func's vmap too."""
    functorch = torch._C._functorch
    whole = images
    while functorch.is_functorch_wrapped_tensor(whole):
        whole = functorch.get_unwrapped(whole)
    return whole.numel() // max(math.prod(images.shape[1:]), 1)
