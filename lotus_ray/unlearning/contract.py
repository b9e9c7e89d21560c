"""What a method sees: batches, sets of samples, the workers, and the phases that it yields.

Nothing here knows of storage, clocks or Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Batch:
    """One worker's share of a global batch. N is the number of rows of this share."""

    images: Tensor  # [N, 3, H, W], normalised
    labels: Tensor  # [N], int64
    rows: Tensor  # [N], int64: row of each sample in the table of roles
    keys: Tensor  # [N], int64: hash of each sample id, for `seeds`
    forget: Tensor  # [N], bool: True for samples of the forget set
    total: int  # rows of the global batch, over all workers

    def mean(self, values: Tensor) -> Tensor:
        """Return this worker's share of the mean of `values` [N] over the global batch.

        The sum of the shares over all workers is the mean.
        """
        return values.sum() / self.total

    def split(self, most: int) -> list[Batch]:
        """Return parts of at most `most` rows over all workers; means stay over the whole batch.

        Every worker gets as many parts as the others, whose sizes differ by at most 1.
        """
        count = -(-self.total // most)
        return self.pieces(count) if count > 1 else [self]

    def pieces(self, count: int) -> list[Batch]:
        """Return `count` parts of this worker's rows; their means are over the whole batch."""
        places = [len(self.rows) * each // count for each in range(count + 1)]
        return [self.part(slice(*pair)) for pair in pairwise(places)]

    def part(self, rows: slice) -> Batch:
        """Return some of this worker's rows; their mean is a share of that over the whole batch."""
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            rows=self.rows[rows],
            keys=self.keys[rows],
            forget=self.forget[rows],
        )


class SampleSet(Protocol):
    """Samples that can be iterated many times. len() counts them over all workers."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]:
        """Yield this worker's batches, in a fixed order. Each sample is on one worker, once."""

    def shuffled(self, batch_size: int, *names: object) -> Iterable[Batch]:
        """Return one epoch in global batches. (seed, *names) decide the order.

        Samples that `draw` repeats come in passes, each shuffled on its own. No batch holds two
        copies of one where that can be avoided.

        Where nodes hold different images, a worker takes those of its node. So row i of a batch is
        sure to be beside row i of another set's only in what `draw` returned, and in images to
        forget, held-out and calibration images: those are on every node.
        """

    def subset(self, fraction: float, *names: object) -> Self:
        """Return round(fraction · n) random samples, at least one, with its part of each class.

        (seed, *names) decide which.
        """

    def at_most(self, per_class: int, *names: object) -> Self:
        """Return at most `per_class` random samples of every class. (seed, *names) decide which."""

    def draw(self, count: int, *names: object) -> Self:
        """Return `count` random samples. If there are fewer, they repeat as evenly as possible.

        (seed, *names) decide which.
        """

    def union(self, other: Self) -> Self:
        """Return the samples of both sets."""

    def without(self, rows: Tensor) -> Self:
        """Return the samples whose row is not in `rows`, int64 [n]."""

    def of_classes_in(self, other: Self) -> Self:
        """Return the samples whose class occurs in `other`."""


def sum_of_one(value: Tensor) -> Tensor:
    """Return the tensor itself: the sum over one worker."""
    return value


def replica_of_one(model: nn.Module) -> nn.Module:
    """Return the model itself: the replica of one worker."""
    return model


def never() -> bool:
    """Return False: the machine stays."""
    return False


@dataclass(frozen=True)
class Workers:
    """The workers that share a problem; the default is one worker.

    Every worker must call each of the functions, because they exchange data.
    """

    rank: int = 0  # of this worker
    size: int = 1  # number of workers
    sum: Callable[[Tensor], Tensor] = sum_of_one  # adds a tensor over workers
    # Returns a module that calls the model and averages its gradients over workers.
    replicate: Callable[[nn.Module], nn.Module] = replica_of_one
    leaving: Callable[[], bool] = never  # True if a machine of a worker is about to be taken away
    nodes: tuple[int, ...] = ()  # number of the node of each worker, from 0 on; empty: all on one

    @property
    def node_of(self) -> tuple[int, ...]:
        """The number of the node of each worker, by rank."""
        return self.nodes or (0,) * self.size

    @property
    def on_this_node(self) -> tuple[int, ...]:
        """The workers on the node of this one, itself among them, rising."""
        node = self.node_of[self.rank]
        return tuple(rank for rank, other in enumerate(self.node_of) if other == node)

    def from_first(self, tensor: Tensor) -> Tensor:
        """Return the first worker's tensor on every worker. Shapes and dtypes must agree."""
        return self.sum(tensor if self.rank == 0 else torch.zeros_like(tensor))

    def gather(self, num_rows: int, rows: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        """Return the rows of all workers, rising, and their values.

        Args:
            num_rows: of the table of roles.
            rows: int64 [n], of this worker; each row is on one worker, once.
            values: [n, ...] each, in the order of `rows`.

        Returns:
            int64 [m], and [m, ...] for each of `values`; the same on every worker.
        """
        index = torch.zeros(num_rows, dtype=torch.int64, device=rows.device)
        index[rows] = 1
        found = self.sum(index).nonzero()[:, 0]
        index[found] = torch.arange(len(found), device=rows.device)
        shared = [found]
        for own in values:
            total = own.new_zeros(len(found), *own.shape[1:])
            total[index[rows]] = own
            shared.append(self.sum(total))
        return tuple(shared)


Step = TypeVar("Step")  # what one optimizer step sees: a batch, or a pair of batches


def leave_unchanged(model: nn.Module) -> None:
    """Do nothing to the gradients, or to the mode of the modules."""


def split_step(step: Step, most: int) -> Sequence[Step]:
    """Split a batch, or the batches of a tuple, into parts; what else is in a tuple is repeated.

    Args:
        step: a batch, or a tuple with one batch or several. Row i of one stays with row i of
            another as large as it.
        most: rows of a part over all workers, of all batches together; at least a row of each.

    Raises:
        TypeError: it is of another kind. Its phase must say how to split it.
    """
    if isinstance(step, Batch):
        return step.split(most)  # type: ignore[return-value]
    batches = [each for each in step if isinstance(each, Batch)] if isinstance(step, tuple) else []
    if not batches:
        raise TypeError(f"a step of type {type(step).__name__} needs a split of its own")
    assert isinstance(step, tuple)
    largest = max(batch.total for batch in batches)
    sizes = range(1, largest + 1)
    count = next(
        (n for n in sizes if sum(-(-batch.total // n) for batch in batches) <= most), largest
    )
    parts = zip(
        *(each.pieces(count) if isinstance(each, Batch) else [each] * count for each in step),
        strict=True,
    )
    return list(parts) if count > 1 else [step]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Phase(Generic[Step]):
    """One pass over some batches, with one optimizer step for each of them."""

    batches: Iterable[Step]
    # loss(model, step) returns this worker's share of the global mean: see `Batch.mean`. The shares
    # of the parts of a step must add up to that of the step: see `Method.mixes_images`.
    loss: Callable[[nn.Module, Step], Tensor]
    optimizer: Optimizer
    edit_gradients: Callable[[nn.Module], None] = leave_unchanged  # after backward, before the step
    # split(step, most) returns parts of at most `most` images over all workers.
    split: Callable[[Step, int], Sequence[Step]] = split_step
    # Called once, after all modules were put in training mode, to put some in eval mode.
    set_mode: Callable[[nn.Module], None] = leave_unchanged
    notes: Mapping[str, float] = field(default_factory=dict)  # kept in the row, such as LoTUS's τ_d
    # False where a step leaves something behind besides weights, buffers and optimizer, such as a
    # sum in `notes`. Then no checkpoint is written within the phase.
    resumable: bool = True
