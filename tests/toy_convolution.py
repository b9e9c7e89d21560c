"""A network that is a single convolution over a 2×2 image: its kernel is as large as the image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolution(nn.Module):
    """Logits = Σ of W ⊙ x: W is [classes, 3, 2, 2], without bias, and starts at 0."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, classes, 2, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images).flatten(1)
        return logits


RAMP = torch.tensor([round(255 * i / 12) for i in range(1, 13)], dtype=torch.uint8).reshape(3, 2, 2)
WHITE = torch.full((3, 2, 2), 255, dtype=torch.uint8)
