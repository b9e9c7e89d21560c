"""Count how many images go through each network."""

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
BACKWARDS, TEACHER_BACKWARDS = "student_backwards", "teacher_backwards"


@dataclass
class ForwardCounter:
    """Counts images by name, until the block of `counting` ends."""

    images: Counter[str] = field(default_factory=Counter)
    _handles: list[RemovableHandle] = field(default_factory=list)

    def watch(self, model: nn.Module, name: str) -> nn.Module:
        """Count the images of each call of a module under a name; return the module."""

        @torch.compiler.disable  # type: ignore[untyped-decorator] # a graph would not count
        def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            images = count_images(inputs[0])
            self.images[name] += images
            if torch.is_grad_enabled():  # autograd records it for a backward
                if name == STUDENT:
                    self.images[BACKWARDS] += images
                elif inputs[0].requires_grad:
                    self.images[TEACHER_BACKWARDS] += images

        self._handles.append(model.register_forward_pre_hook(count))
        return model

    @contextmanager
    def counting(self) -> Iterator[ForwardCounter]:
        """Stop counting at the end of the block."""
        try:
            yield self
        finally:
            for handle in self._handles:
                handle.remove()


def count_images(images: Tensor) -> int:
    """Return the number of images in a batch [N, 3, H, W], also inside torch.func.vmap."""
    functorch = torch._C._functorch
    all_images = images
    while functorch.is_functorch_wrapped_tensor(all_images):
        all_images = functorch.get_unwrapped(all_images)
    return all_images.numel() // max(math.prod(images.shape[1:]), 1)
