"""SGD, Adam and AdamW, written out from their definitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

Weights = list[Tensor]


@dataclass
class Sgd:
    """v ← m·v + g + d·θ; θ ← θ − lr·v."""

    lr: float
    momentum: float = 0.0
    decay: float = 0.0
    velocity: Weights = field(default_factory=list)

    @classmethod
    def of(cls, method: Any) -> Self:
        """Return the optimizer that a method's settings name."""
        return cls(method.lr, method.momentum, method.weight_decay)

    def step(self, weights: Weights, gradients: Weights) -> Weights:
        """Return the weights after a step."""
        before = self.velocity or [torch.zeros_like(value) for value in weights]
        self.velocity = [
            self.momentum * v + g + self.decay * value
            for v, g, value in zip(before, gradients, weights, strict=True)
        ]
        return [value - self.lr * v for value, v in zip(weights, self.velocity, strict=True)]


@dataclass
class Adam:
    """m and v are running means of g and g²; θ ← θ − lr·m̂/(√v̂ + 1e-8).

    Decay is part of g; with `decoupled`, as in AdamW, θ shrinks by 1 − lr·d before the step.
    """

    lr: float
    decay: float = 0.0
    decoupled: bool = False
    first: Weights = field(default_factory=list)
    second: Weights = field(default_factory=list)
    steps: int = 0

    def step(self, weights: Weights, gradients: Weights) -> Weights:
        """Return the weights after a step."""
        self.steps += 1
        self.first = self.first or [torch.zeros_like(value) for value in weights]
        self.second = self.second or [torch.zeros_like(value) for value in weights]
        return [
            self._moved(index, value, g)
            for index, (value, g) in enumerate(zip(weights, gradients, strict=True))
        ]

    def _moved(self, index: int, value: Tensor, g: Tensor) -> Tensor:
        if self.decoupled:
            value = value * (1 - self.lr * self.decay)
        else:
            g = g + self.decay * value
        m = self.first[index] = 0.9 * self.first[index] + 0.1 * g
        v = self.second[index] = 0.999 * self.second[index] + 0.001 * g * g
        m_hat, v_hat = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
        return value - self.lr * m_hat / (v_hat.sqrt() + 1e-8)
