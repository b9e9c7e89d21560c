"""What a method sees: batches, sets of samples, the workers, and the phases that it yields.

Nothing here knows of storage, clocks or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Batch:
    """One worker's share of a global batch of `total` rows. N is the number of rows here."""

    images: Tensor  # [N, 3, H, W], normalised
    labels: Tensor  # [N], int64
    rows: Tensor  # [N], int64: place of each sample in the table of roles
    keys: Tensor  # [N], int64: hash of each sample id, for `seeds`
    forget: Tensor  # [N], bool: whether the sample belongs to the forget set
    total: int

    def mean(self, values: Tensor) -> Tensor:
        """Return this worker's share of the mean over the global batch of `values` [N]."""
        return values.sum() / self.total


class SampleSet(Protocol):
    """Samples that can be walked over again and again; len() counts them over all workers."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's share, each sample once over all workers, in a fixed order."""

    def shuffled(self, batch_size: int, *names: object) -> Iterable[Batch]:
        """Return one epoch in the order that (seed, *names) gives, in global batches."""

    def subset(self, fraction: float, *names: object) -> Self:
        """Return a fixed random part of every class, drawn from (seed, *names)."""

    def at_most(self, per_class: int, *names: object) -> Self:
        """Return up to so many samples of every class, drawn from (seed, *names)."""

    def draw(self, count: int, *names: object) -> Self:
        """Return so many samples drawn from (seed, *names), each as often as any, or once more."""

    def union(self, other: Self) -> Self:
        """Return the samples of both."""

    def without(self, rows: Tensor) -> Self:
        """Return the samples that are not at `rows`, int64 [n]."""

    def of_classes_in(self, other: Self) -> Self:
        """Return the samples whose class occurs in `other`."""


def unchanged(value: Tensor) -> Tensor:
    """Return the tensor itself: the sum over one worker."""
    return value


def itself(model: nn.Module) -> nn.Module:
    """Return the model itself: the replica of one worker."""
    return model


def never() -> bool:
    """Return False: nobody takes away the machine."""
    return False


@dataclass(frozen=True)
class Workers:
    """The workers that share this problem; the default is one alone.

    `sum` adds a tensor over workers. `replicate` returns a module that calls the model and
    averages its gradients over workers. `leaving` says whether a machine of theirs is about to be
    taken away; they ask each other, so all have to call it.
    """

    rank: int = 0
    size: int = 1
    sum: Callable[[Tensor], Tensor] = unchanged
    replicate: Callable[[nn.Module], nn.Module] = itself
    leaving: Callable[[], bool] = never

    def from_first(self, tensor: Tensor) -> Tensor:
        """Return the first worker's tensor on every worker; shapes and types must agree."""
        return self.sum(tensor if self.rank == 0 else torch.zeros_like(tensor))


Step = TypeVar("Step")  # what one optimizer step sees: a batch, or a pair of batches


def leave_unchanged(model: nn.Module) -> None:
    """Edit no gradient."""


@dataclass(frozen=True)
class Phase(Generic[Step]):
    """One pass over `batches`: one optimizer step each.

    `loss(model, step)` returns this worker's share of the global mean (see `Batch.mean`).
    `notes` are figures worth keeping for this phase, such as LoTUS's temperature.
    """

    batches: Iterable[Step]
    loss: Callable[[nn.Module, Step], Tensor]
    optimizer: Optimizer
    edit_gradients: Callable[[nn.Module], None] = leave_unchanged
    notes: Mapping[str, float] = field(default_factory=dict)
