"""Decoded images in memory, and splits that walk over them in global batches.

Every worker holds all pixels of its cell and takes its share of each global batch. The batches
depend on the seed, the epoch and the sample ids alone, never on the number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from lotus_ray import seeds
from lotus_ray.data.images import Transform
from lotus_ray.data.pieces import Piece
from lotus_ray.data.splits import Roles
from lotus_ray.errors import DataError
from lotus_ray.problem import Batch, Workers
from lotus_ray.roles import FORGET, STORED

EVALUATION_BATCH = 512  # rows a worker; has no influence on any result
LARGE = 3 * 64 * 64  # values in an image, from which on the work is worth a loop


class PixelCollector:
    """Pixels [N, 3, H, W], uint8, of every sample in the table of roles, each decoded once."""

    def __init__(self, roles: Roles, transform: Transform) -> None:
        self.roles = roles
        self.transform = transform
        size = transform.img_size
        self._pixels = np.empty((len(roles), size, size, 3), dtype=np.uint8)
        self._seen = np.zeros(len(roles), dtype=np.int64)

    def add(self, rows: np.ndarray, pixels: np.ndarray) -> None:
        """Store pixels [n, H, W, 3] at `rows` [n]."""
        self._pixels[rows] = pixels
        np.add.at(self._seen, rows, 1)

    def finish(self) -> Tensor:
        """Return the pixels as uint8 [N, 3, H, W].

        Raises:
            DataError: a sample was delivered never, or more than once.
        """
        wrong = np.flatnonzero(self._seen != 1)
        if len(wrong):
            first = wrong[0]
            raise DataError(
                f"{len(wrong)} samples were not delivered exactly once; "
                f"{self.roles.sample_ids[first]} came {self._seen[first]} times"
            )
        return torch.from_numpy(self._pixels).permute(0, 3, 1, 2).contiguous()


def read_pixels(
    pieces: Iterable[Piece], roles: Roles, transform: Transform, threads: int = 1
) -> Tensor:
    """Decode every sample in this process, piece by piece. Returns uint8 [N, 3, H, W].

    The way of `--local`; on a cluster `cluster.pipelines` does the same through Ray Data.
    """
    images = PixelCollector(roles, transform)
    for piece in pieces:
        decoded = piece.decode(transform, threads)
        images.add(decoded["row"], decoded["pixels"])
    return images.finish()


@dataclass(frozen=True)
class WarmSplit:
    """Rows of the warm set as a `problem.Split`. `warm` is shared by all splits of a cell."""

    warm: WarmSet
    rows: np.ndarray  # [n], int64, ascending

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        workers = self.warm.workers
        share = self.rows[workers.rank :: workers.size]
        for start in range(0, len(share), EVALUATION_BATCH):
            rows = share[start : start + EVALUATION_BATCH]
            yield self.warm.batch(rows, total=len(self))

    def shuffled(self, batch_size: int, *names: object) -> Iterable[Batch]:
        """Return one epoch: ceil(n / batch_size) global batches whose sizes differ by at most 1.

        Deviation: a DataLoader leaves the remainder to a last short batch. Even sizes take the
        same number of steps, and no batch is too small for batch statistics or for the workers.
        """
        return _Epoch(self, batch_size, names)

    def subset(self, fraction: float, *names: object) -> Self:
        """Return round(fraction · n_c) samples of each class c, drawn from (seed, *names)."""
        rows = self._by_class(lambda count: round(fraction * count), *names)
        return replace(self, rows=np.sort(rows))

    def at_most(self, per_class: int, *names: object) -> Self:
        """Return up to `per_class` samples of each class, drawn from (seed, *names)."""
        return replace(self, rows=np.sort(self._by_class(lambda count: per_class, *names)))

    def draw(self, count: int, *names: object) -> Self:
        """Return `count` samples, drawn from (seed, *names); each as often as any, or once more."""
        ordered = self.rows[self._order("draw", *names)]
        repeats = math.ceil(count / len(ordered)) if len(ordered) else 0
        return replace(self, rows=np.sort(np.tile(ordered, repeats)[:count]))

    def union(self, other: Self) -> Self:
        """Return the samples of both, each once."""
        return replace(self, rows=np.union1d(self.rows, other.rows))

    def of_classes_in(self, other: Self) -> Self:
        """Return the samples whose class occurs in `other`."""
        labels = self.warm.labels.numpy()
        return replace(self, rows=self.rows[np.isin(labels[self.rows], labels[other.rows])])

    def _by_class(self, how_many: Callable[[int], int], *names: object) -> np.ndarray:
        ordered = self.rows[self._order("subset", *names)]
        labels = self.warm.labels.numpy()[ordered]
        chosen = [
            ordered[labels == label][: how_many(int((labels == label).sum()))]
            for label in np.unique(labels)
        ]
        return np.concatenate([self.rows[:0], *chosen])

    def _order(self, *names: object) -> np.ndarray:
        keys = self.warm.keys[torch.from_numpy(self.rows)]
        return np.argsort(seeds.scores(keys, self.warm.seed, *names).numpy(), kind="stable")


@dataclass(frozen=True)
class _Epoch:
    split: WarmSplit
    batch_size: int
    names: tuple[object, ...]

    def __iter__(self) -> Iterator[Batch]:
        rows = self.split.rows[self.split._order("shuffle", *self.names)]
        if len(rows):
            for batch in np.array_split(rows, math.ceil(len(rows) / self.batch_size)):
                yield self._share(batch)

    def _share(self, batch: np.ndarray) -> Batch:
        """Return this worker's part; of a batch with fewer rows than workers, all of it."""
        workers = self.split.warm.workers
        if len(batch) < workers.size:
            return self.split.warm.batch(batch, total=len(batch) * workers.size)
        return self.split.warm.batch(batch[workers.rank :: workers.size], total=len(batch))


class WarmSet:
    """Pixels, labels and keys of one cell, and how to make batches of them on its device."""

    def __init__(
        self,
        pixels: Tensor,
        roles: Roles,
        transform: Transform,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        workers: Workers,
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
        shape = (1, 3, 1, 1)
        mean = torch.tensor(transform.mean, dtype=torch.float64).reshape(shape)
        std = torch.tensor(transform.std, dtype=torch.float64).reshape(shape)
        # (p / 255 − mean) / std for a pixel p of 0 … 255, as one product and one sum.
        self._scale = (1 / (255 * std)).to(device, dtype)
        self._shift = (-mean / std).to(device, dtype)

    def split(self, *roles: str) -> WarmSplit:
        """Return the samples that play any of `roles`."""
        return WarmSplit(self, self.roles.rows(*roles))

    @property
    def pixel_range(self) -> tuple[Tensor, Tensor]:
        """Return a black and a white pixel as batches hold them, [1, 3, 1, 1] each."""
        return self._shift, 255 * self._scale + self._shift

    def batch(self, rows: np.ndarray, total: int) -> Batch:
        """Return the samples at `rows` on the device, normalised."""
        index = torch.from_numpy(rows)
        return Batch(
            images=self._normalised(index),
            labels=self.labels[index].to(self.device),
            rows=index.to(self.device),
            keys=self.keys[index].to(self.device),
            forget=self.forget[index].to(self.device),
            total=total,
        )

    def _normalised(self, index: Tensor) -> Tensor:
        """Return the images [N, 3, H, W] at `index`, as the network wants them."""
        if self.device.type != "cpu" or self.pixels[0].numel() < LARGE:
            images = self.pixels[index].to(self.device).to(self.dtype)
            return images.mul_(self._scale).add_(self._shift)
        # One at a time, an image stays in the cache from the first step to the last.
        images = torch.empty((len(index), *self.pixels.shape[1:]), dtype=self.dtype)
        for image, row in zip(images, index.tolist(), strict=True):
            torch.mul(self.pixels[row], self._scale[0], out=image).add_(self._shift[0])
        return images
