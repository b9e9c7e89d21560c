"""The whole contract between data, methods and the engine.

A `Method` is given a `Problem` and yields the `Phase`s to train, in order; what it does between
two yields is its own. Everything a method may ask for stands here, and nothing here knows of
storage, clocks or Ray.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lotus_ray import seeds


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


class Split(Protocol):
    """Samples that can be walked over again and again; len() counts them over all workers."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's share, each sample once over all workers, in a fixed order."""

    def shuffled(self, batch_size: int, *names: object) -> Iterable[Batch]:
        """Return one epoch in the order that (seed, *names) gives, in global batches."""

    def subset(self, fraction: float, *names: object) -> Self:
        """Return a fixed random part of every class, drawn from (seed, *names)."""

    def union(self, other: Self) -> Self:
        """Return the samples of both."""


def unchanged(value: Tensor) -> Tensor:
    """Return the tensor itself: the sum over one worker."""
    return value


def itself(model: nn.Module) -> nn.Module:
    """Return the model itself: the replica of one worker."""
    return model


@dataclass(frozen=True)
class Workers:
    """The workers that share this problem; the default is one alone.

    `sum` adds a tensor over workers. `replicate` returns a module that calls the model and
    averages its gradients over workers.
    """

    rank: int = 0
    size: int = 1
    sum: Callable[[Tensor], Tensor] = unchanged
    replicate: Callable[[nn.Module], nn.Module] = itself

    def from_first(self, tensor: Tensor) -> Tensor:
        """Return the first worker's tensor on every worker; shapes and types must agree."""
        return self.sum(tensor if self.rank == 0 else torch.zeros_like(tensor))


@dataclass
class Problem:
    """What a method may use. `model` starts as a copy of `original` and is changed in place."""

    model: nn.Module
    original: nn.Module
    forget: Split
    retain: Split
    unseen: Split
    num_classes: int
    num_rows: int  # of the table of roles
    batch_size: int  # of a global batch
    seed: int
    device: torch.device
    initial_model: Callable[[], nn.Module]  # what training from scratch starts from
    workers: Workers = field(default_factory=Workers)
    _logits: Tensor | None = None  # [num_rows, C]
    _known: Tensor | None = None  # [num_rows], bool

    def uniform(self, batch: Batch, *names: object) -> Tensor:
        """Draw uniform numbers [N, C] keyed by (seed, *names, sample id): see `seeds.uniform`."""
        return seeds.uniform(batch.keys, self.num_classes, self.seed, *names)

    def original_logits(self, batch: Batch) -> Tensor:
        """Return the original's logits [N, C] for a batch; each sample is computed only once.

        Valid because images are transformed deterministically and the original is in eval mode.
        """
        if self._logits is None or self._known is None:
            first = self._run_original(batch)
            self._logits = first.new_empty(self.num_rows, first.shape[1])
            self._known = torch.zeros(self.num_rows, dtype=torch.bool, device=first.device)
            self._remember(batch, first)
        elif not bool(self._known[batch.rows].all()):
            self._remember(batch, self._run_original(batch))
        return self._logits[batch.rows]

    def accuracy(self, model: nn.Module, split: Split) -> float:
        """Return the unrounded share of `split` that `model` classifies correctly in eval mode.

        The model's mode is restored. An empty split gives NaN.
        """
        was_training = model.training
        model.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        with torch.no_grad():
            for batch in split:
                correct += (model(batch.images).argmax(dim=1) == batch.labels).sum()
        model.train(was_training)
        return int(self.workers.sum(correct)) / len(split) if len(split) else float("nan")

    def _run_original(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.original(batch.images)
        return logits

    def _remember(self, batch: Batch, logits: Tensor) -> None:
        assert self._logits is not None
        assert self._known is not None
        self._logits[batch.rows] = logits
        self._known[batch.rows] = True


def leave_unchanged(model: nn.Module) -> None:
    """Edit no gradient."""


@dataclass(frozen=True)
class Phase:
    """One pass over `batches`: one optimizer step a batch.

    `loss(model, batch)` returns this worker's share of the global mean (see `Batch.mean`).
    `notes` are figures worth keeping for this phase, such as LoTUS's temperature.
    """

    batches: Iterable[Batch]
    loss: Callable[[nn.Module, Batch], Tensor]
    optimizer: Optimizer
    edit_gradients: Callable[[nn.Module], None] = leave_unchanged
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Method(ABC):
    """A frozen dataclass of hyper-parameters with one function.

    `name` is used in jobs, `label` in reports; `version` rises when the mathematics change, so
    that rows of the old ones are not taken for rows of the new ones.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def phases(self, problem: Problem) -> Iterator[Phase]:
        """Yield the phases to train, in order."""
