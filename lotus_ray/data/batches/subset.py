"""Some samples of the image dataset, and how this worker walks over them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from torch import Tensor

from lotus_ray.data.batches.order import Order
from lotus_ray.data.batches.parts import first_of_each, stratified
from lotus_ray.data.batches.shares import Shares
from lotus_ray.unlearning.contract import Batch, Workers


class Dataset(Protocol):
    """What a subset asks of the image dataset that it is a part of."""

    order: Order
    labels: Tensor  # int64 [N], by row of the table of roles
    workers: Workers
    shares: Shares

    @property
    def evaluation_rows(self) -> int:
        """Return how many images a worker evaluates together."""

    def batches(
        self,
        shares: Sequence[np.ndarray],
        totals: Sequence[int],
        windows: Sequence[np.ndarray] | None,
    ) -> Iterator[Batch]:
        """Yield a batch for each share of rows [n], int64, of a global batch of so many in all."""


@dataclass(frozen=True)
class ImageSubset:
    """Rows of the image dataset as a `contract.SampleSet`; all of a cell share the dataset."""

    dataset: Dataset
    rows: np.ndarray  # [n], int64, ascending; a row that is drawn k times stands k times
    are_partners: bool = False  # row i of a batch stays with row i of another set's batch

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        rows, window = self.dataset.order.fixed(self.rows)
        share = self.dataset.shares.of_pass(rows)
        size = self.dataset.evaluation_rows
        parts = [share[start : start + size] for start in range(0, len(share), size)]
        shares, windows = _at(parts, rows, window)
        return self.dataset.batches(shares, [len(self)] * len(parts), windows)

    def shuffled(self, batch_size: int, *names: object) -> Iterable[Batch]:
        """Return one epoch: ceil(n / batch_size) global batches whose sizes differ by at most 1.

        Deviation: a DataLoader leaves the remainder to a last short batch. Even sizes take the
        same number of steps, and no batch is too small for batch statistics or for the workers.
        """
        return _Epoch(self, batch_size, names)

    def subset(self, fraction: float, *names: object) -> Self:
        """Return round(fraction · n) samples, at least one: fraction · n_c of each class c.

        What is left of a class below one sample goes by largest remainder; (seed, *names) draw the
        samples, and break ties.
        """
        return replace(self, rows=np.sort(stratified(*self._ordered(*names), fraction)))

    def at_most(self, per_class: int, *names: object) -> Self:
        """Return up to `per_class` samples of each class, drawn from (seed, *names)."""
        return replace(self, rows=np.sort(first_of_each(*self._ordered(*names), per_class)))

    def draw(self, count: int, *names: object) -> Self:
        """Return `count` samples, drawn from (seed, *names); each as often as any, or once more."""
        ordered = self.dataset.order.drawn(self.rows, "draw", *names)
        rows = np.sort(np.resize(ordered, count if len(ordered) else 0))
        return replace(self, rows=rows, are_partners=True)

    def union(self, other: Self) -> Self:
        """Return the samples of both, each once."""
        return replace(self, rows=np.union1d(self.rows, other.rows))

    def without(self, rows: Tensor) -> Self:
        """Return the samples that are not at `rows`, int64 [n]."""
        return replace(self, rows=self.rows[~np.isin(self.rows, rows.cpu().numpy())])

    def of_classes_in(self, other: Self) -> Self:
        """Return the samples whose class occurs in `other`."""
        labels = self.dataset.labels.numpy()
        return replace(self, rows=self.rows[np.isin(labels[self.rows], labels[other.rows])])

    def _ordered(self, *names: object) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows in random order, and the label of each."""
        ordered = self.dataset.order.drawn(self.rows, "subset", *names)
        return ordered, self.dataset.labels.numpy()[ordered]


@dataclass(frozen=True)
class _Epoch:
    split: ImageSubset
    batch_size: int
    names: tuple[object, ...]

    def __iter__(self) -> Iterator[Batch]:
        return self.after(0)

    def after(self, skipped: int) -> Iterator[Batch]:
        """Yield the batches without the first ones, of which no image is decoded."""
        dataset, count = self.split.dataset, len(self.split)
        batches = np.array_split(np.arange(count), math.ceil(count / self.batch_size) or 1)
        ends = np.cumsum([len(batch) for batch in batches]).tolist()
        rows, window = dataset.order.epoch(self.split.rows, ends, *self.names)
        shared = [self._share(batch, rows) for batch in batches[skipped:] if len(batch)]
        places, totals = [place for place, _ in shared], [total for _, total in shared]
        shares, windows = _at(places, rows, window)
        return dataset.batches(shares, totals, windows)

    def _share(self, batch: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Return this worker's part; of a batch with fewer rows than workers, all of it."""
        workers = self.split.dataset.workers
        if len(batch) < workers.size:
            return batch, len(batch) * workers.size
        plain = Shares(workers)
        shares = plain if self.split.are_partners else self.split.dataset.shares
        return batch[shares.of_batch(rows[batch])], len(batch)


def _at(
    places: Sequence[np.ndarray], rows: np.ndarray, window: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Return the rows at the places of each share, and their windows, if any."""
    return (
        [rows[share] for share in places],
        None if window is None else [window[share] for share in places],
    )
