"""MUNBa: in each step, the retain and the forget gradient bargain for their weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import ClassVar

import torch
from torch import Tensor, nn

from lotus_ray.unlearning.contract import Batch, Phase
from lotus_ray.unlearning.losses import cross_entropy
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.gradients import label_gradient
from lotus_ray.unlearning.methods.supervised import sgd
from lotus_ray.unlearning.problem import Problem

Pair = tuple[Batch, Batch | None]  # retain rows, and forget rows while there are some
FALLBACK = (1.0, 0.1)  # of the authors, where no bargain is found
OPPOSED = 1e-6  # 1 + cosine of two gradients that leave nothing to share


@dataclass(frozen=True)
class Munba(Method):
    """Step along α₁·g_r + α₂·g_f, clipped: the Nash bargain of both gradients.

    g_r is the gradient of CE on a batch of D_r, g_f that on a batch of D_f with random labels,
    uniform over all classes. α₁ and α₂ solve α₁·(a·α₁ + b·α₂) = α₂·(b·α₁ + c·α₂) = 1: see
    `bargain`. The other batches of D_r train on CE alone, without clipping. A row's losses are
    those on D_r.

    Args:
        epochs: passes over D_r, each with a pass over D_f in its first steps.
        lr: learning rate of SGD.
        momentum: of SGD.
        weight_decay: of SGD.
        max_norm: largest L2 norm of the combined gradient.

    Source: Wu & Harandi 2025 (ICCV), and their code's defaults. Deviation: no images are
    augmented. Their code adds 1e-8 to the denominators of α₁ and α₂, and fails where D_f has more
    batches than D_r: here the last batches of D_f are left out.
    """

    name: ClassVar[str] = "munba"
    label: ClassVar[str] = "MUNBa"

    epochs: int = 10
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    max_norm: float = 1.0

    @property
    def weight_copies(self) -> float:
        """Return 4: momentum, both gradients as vectors, and the parts of one."""
        return 4.0

    def phases(self, problem: Problem) -> Iterator[Phase[Pair]]:
        """Yield one phase per epoch."""
        optimizer = sgd(problem.model, self)
        size = problem.batch_size
        for epoch in range(self.epochs):
            forgotten = problem.forget.shuffled(size, self.name, "forget", epoch)
            run = _Epoch(problem, epoch, self.max_norm)
            yield Phase(
                batches=_pairs(problem.retain.shuffled(size, self.name, epoch), forgotten),
                loss=run.loss,
                optimizer=optimizer,
                edit_gradients=run.combine,
                split=_split_retained,
                notes=run.notes,
                resumable=False,  # the notes count over the steps
            )


def bargain(a: float, b: float, c: float) -> tuple[float, float] | None:
    """Return the Nash bargain's weights: α₁ = 1/√(a + b·√(a/c)), α₂ = 1/√(c + b·√(c/a)).

    They solve a·α₁² + b·α₁α₂ = c·α₂² + b·α₁α₂ = 1: the paper's closed form, multiplied out so
    that nothing is divided by b. As b → 0 they become 1/√a and 1/√c.

    Args:
        a: ‖g_r‖².
        b: ⟨g_r, g_f⟩.
        c: ‖g_f‖².

    Returns:
        α₁ and α₂, both positive; None where a gradient is 0 or NaN, or both are opposed.

    Source: Wu & Harandi 2025, the closed form for two players. Deviation: none.
    """
    product = math.sqrt(a) * math.sqrt(c)
    if not product + b > OPPOSED * product:
        return None
    shared = 1 / math.sqrt(1 + b / product)
    return shared / math.sqrt(a), shared / math.sqrt(c)


def _pairs(retained: Iterable[Batch], forgotten: Iterable[Batch]) -> Iterator[Pair]:
    """Yield every retain batch, the first ones with a forget batch."""
    for retain, forget in zip_longest(retained, forgotten):
        if retain is None:
            return
        yield retain, forget


def _split_retained(pair: Pair, most: int) -> list[Pair]:
    """Split the retain rows of a step; the gradient on the forget rows has parts of its own."""
    retained, forgotten = pair
    return [(part, forgotten) for part in retained.split(most)]


@dataclass
class _Epoch:
    """What the steps of one epoch share. `forgotten` is the forget batch of the current one."""

    problem: Problem
    epoch: int
    max_norm: float
    forgotten: Batch | None = None
    notes: dict[str, float] = field(default_factory=lambda: {"failed_bargains": 0.0})

    def loss(self, model: nn.Module, pair: Pair) -> Tensor:
        """Return the share of CE on the retain rows."""
        retained, self.forgotten = pair
        return retained.mean(cross_entropy(model(retained.images), retained.labels))

    def combine(self, model: nn.Module) -> None:
        """Turn the gradient on the retain rows into that of the bargain."""
        if self.forgotten is None:
            return
        parameters = [value for value in model.parameters() if value.requires_grad]
        retain = torch.cat([_gradient(value) for value in parameters])
        forget = self._forget_gradient(self.forgotten, parameters)
        products = retain.dot(retain), retain.dot(forget), forget.dot(forget)
        weights = bargain(*torch.stack(products).tolist())
        self.notes["failed_bargains"] += weights is None
        own, other = weights or FALLBACK
        combined = retain.mul_(own).add_(forget, alpha=other)
        for value, part in zip(parameters, _split(combined, parameters), strict=True):
            value.grad = part.view_as(value)
        torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)

    def _forget_gradient(self, batch: Batch, parameters: list[nn.Parameter]) -> Tensor:
        """Return the gradient of CE to random labels, summed over workers, as one vector."""
        classes = self.problem.num_classes
        uniform = self.problem.uniform(batch, 1, "munba", self.epoch)[:, 0]
        labels = (uniform * classes).long().clamp_max(classes - 1)
        gradients = label_gradient(self.problem, replace(batch, labels=labels), parameters)
        return self.problem.workers.sum(torch.cat([part.flatten() for part in gradients]))


def _gradient(value: nn.Parameter) -> Tensor:
    gradient = value.grad if value.grad is not None else torch.zeros_like(value)
    return gradient.flatten()


def _split(vector: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor, ...]:
    return torch.split(vector, [value.numel() for value in parameters])
