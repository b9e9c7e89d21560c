"""Splits that walk over decoded images in global batches.

Every worker reads the images of its node and takes its share of each global batch. The batches
depend on the seed, the epoch and the sample ids alone, never on the number of workers, nor on
whether an image is in memory, in a file, or streams past.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from lotus_ray.base import seeds
from lotus_ray.base.memory import release_memory
from lotus_ray.base.roles import FORGET, STORED
from lotus_ray.data.batches.order import Order
from lotus_ray.data.batches.parts import first_of_each, stratified
from lotus_ray.data.pixels.lookup import Image
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.roles.table import Roles
from lotus_ray.unlearning.contract import Batch, Workers

EVALUATION_BATCH = 512  # rows a worker, at most; has no influence on any result
EVALUATION_BYTES = {"cuda": 1 << 27, "cpu": 1 << 25}  # of the images in such a batch, at most
LARGE_BATCH = 1 << 24  # bytes of images
LARGE = 3 * 64 * 64  # values in an image, from which on the work is worth a loop


class PixelSource(Protocol):
    """Gives decoded images: `pixels.Pixels`, or `pixels.StreamedPixels` where some are not here."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of an image."""

    def along(
        self, shares: Sequence[np.ndarray], windows: Sequence[np.ndarray] | None
    ) -> Iterator[Image]:
        """Yield, for each share of rows in turn, what gives its images."""


@dataclass(frozen=True)
class ImageSubset:
    """Rows of the image dataset as a `contract.SampleSet`; all of a cell share the dataset."""

    dataset: ImageDataset
    rows: np.ndarray  # [n], int64, ascending; a row that is drawn k times stands k times

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        workers = self.dataset.workers
        rows, window = self.dataset.order.fixed(self.rows)
        share = np.arange(len(rows))[workers.rank :: workers.size]
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
        return replace(self, rows=np.sort(np.resize(ordered, count if len(ordered) else 0)))

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
        dataset, count = self.split.dataset, len(self.split)
        batches = np.array_split(np.arange(count), math.ceil(count / self.batch_size) or 1)
        ends = np.cumsum([len(batch) for batch in batches]).tolist()
        rows, window = dataset.order.epoch(self.split.rows, ends, *self.names)
        shared = [self._share(batch) for batch in batches if len(batch)]
        places, totals = [place for place, _ in shared], [total for _, total in shared]
        shares, windows = _at(places, rows, window)
        return dataset.batches(shares, totals, windows)

    def _share(self, batch: np.ndarray) -> tuple[np.ndarray, int]:
        """Return this worker's part; of a batch with fewer rows than workers, all of it."""
        workers = self.split.dataset.workers
        if len(batch) < workers.size:
            return batch, len(batch) * workers.size
        return batch[workers.rank :: workers.size], len(batch)


def _at(
    places: Sequence[np.ndarray], rows: np.ndarray, window: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Return the rows at the places of each share, and their windows, if any."""
    return (
        [rows[share] for share in places],
        None if window is None else [window[share] for share in places],
    )


class ImageDataset:
    """Pixels, labels and keys of one cell, and how to make batches of them on its device."""

    def __init__(
        self,
        pixels: PixelSource,
        roles: Roles,
        transform: Transform,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        workers: Workers,
        stored: np.ndarray | None = None,
        window: int | None = None,
    ) -> None:
        self.pixels = pixels
        self.labels = torch.from_numpy(roles.labels.astype(np.int64))
        self.keys = seeds.sample_keys(roles.sample_ids)
        self.forget = torch.from_numpy(roles.roles == STORED.index(FORGET))
        self.seed = seed
        self.device = device
        self.dtype = dtype
        self.workers = workers
        self.roles = roles
        # Where batches are made of them: a copy for each batch would wait for the device.
        self._there = tuple(values.to(device) for values in (self.labels, self.keys, self.forget))
        self._last_rows = 0  # in the first batch of the last pass
        self.order = Order(self.keys, seed, stored, window)
        shape = (1, 3, 1, 1)
        mean = torch.tensor(transform.mean, dtype=torch.float64).reshape(shape)
        std = torch.tensor(transform.std, dtype=torch.float64).reshape(shape)
        # (p / 255 − mean) / std for a pixel p of 0 … 255, as one product and one sum.
        self._scale = (1 / (255 * std)).to(device, dtype)
        self._shift = (-mean / std).to(device, dtype)

    def split(self, *roles: str) -> ImageSubset:
        """Return the samples that play any of `roles`."""
        return ImageSubset(self, self.roles.indices(*roles))

    @property
    def pixel_range(self) -> tuple[Tensor, Tensor]:
        """Return a black and a white pixel as batches hold them, [1, 3, 1, 1] each."""
        return self._shift, 255 * self._scale + self._shift

    @property
    def evaluation_rows(self) -> int:
        """Return how many images a worker evaluates together."""
        of_one = math.prod(self.pixels.shape) * self.dtype.itemsize
        window = self.order.window or EVALUATION_BATCH
        return max(min(EVALUATION_BATCH, EVALUATION_BYTES[self.device.type] // of_one, window), 1)

    def batches(
        self,
        shares: Sequence[np.ndarray],
        totals: Sequence[int],
        windows: Sequence[np.ndarray] | None,
    ) -> Iterator[Batch]:
        """Yield a batch for each share of rows [n], int64, of a global batch of so many in all."""
        self._release_memory(len(shares[0]) if len(shares) else 0)
        images = self.pixels.along(shares, windows)
        for rows, total, image in zip(shares, totals, images, strict=True):
            index = self._sent(torch.from_numpy(rows))
            labels, keys, forget = (values[index] for values in self._there)
            yield Batch(
                images=self._normalised(rows.tolist(), image),
                labels=labels,
                rows=index,
                keys=keys,
                forget=forget,
                total=total,
            )

    def _release_memory(self, rows: int) -> None:
        """Release freed memory if batches are large, or differ in size from the last pass.

        Fragments of other batch sizes cannot be reused. Fragments of this size can, and releasing
        them costs the system time, which does not matter beside a pass over large batches.
        """
        is_large = rows * math.prod(self.pixels.shape) * self.dtype.itemsize >= LARGE_BATCH
        if is_large or not self._last_rows / 2 <= rows <= self._last_rows * 2:
            release_memory()
        self._last_rows = rows

    def _sent(self, values: Tensor) -> Tensor:
        """Return values on the device; to a GPU they go while it works."""
        if self.device.type == "cuda":
            values = values.pin_memory()
        return values.to(self.device, non_blocking=True)

    def _normalised(self, rows: list[int], image: Image) -> Tensor:
        """Return the images [N, 3, H, W] at `rows`, as the network wants them."""
        shape = (len(rows), *self.pixels.shape)
        if self.device.type == "cpu" and math.prod(self.pixels.shape) >= LARGE:
            # One at a time, an image stays in the cache from the first step to the last.
            # NumPy, since torch would wake its other threads three times for each.
            images = torch.empty(shape, dtype=self.dtype)
            scale, shift = self._scale[0].numpy(), self._shift[0].numpy()
            for pixels, row in zip(images.numpy(), rows, strict=True):
                np.copyto(pixels, image(row))
                np.multiply(pixels, scale, out=pixels)
                np.add(pixels, shift, out=pixels)
            return images
        levels = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for pixels, row in zip(levels.numpy(), rows, strict=True):
            np.copyto(pixels, image(row))
        images = levels.to(self.device, non_blocking=True).to(self.dtype)
        return images.mul_(self._scale).add_(self._shift)
