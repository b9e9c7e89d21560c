"""Splits that walk over decoded images in global batches.

Every worker reads the images of its node and takes its share of each global batch. The batches
depend on the seed, the epoch and the sample ids alone, never on the number of workers, nor on
whether an image is in memory, in a file, on another node, or streams past.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lotus_ray.base import seeds
from lotus_ray.base.memory import release_memory
from lotus_ray.base.roles import FORGET, STORED
from lotus_ray.data.batches.buffers import Buffers
from lotus_ray.data.batches.device_images import DeviceImages, PixelSource
from lotus_ray.data.batches.order import Order
from lotus_ray.data.batches.shares import Shares
from lotus_ray.data.batches.subset import ImageSubset
from lotus_ray.data.pixels.lookup import Image
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.roles.table import Roles
from lotus_ray.unlearning.contract import Batch, Workers

EVALUATION_BATCH = 512  # rows a worker, at most; has no influence on any result
EVALUATION_BYTES = {"cuda": 1 << 27, "cpu": 1 << 25}  # of the images in such a batch, at most
LARGE_BATCH = 1 << 24  # bytes of images
LARGE = 3 * 64 * 64  # values in an image, from which on the work is worth a loop


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
        shares: Shares | None = None,
    ) -> None:
        self.pixels = pixels
        self.labels = torch.from_numpy(roles.labels.astype(np.int64))
        self.keys = seeds.sample_keys(roles.sample_ids)
        self.forget = torch.from_numpy(roles.roles == STORED.index(FORGET))
        self.seed = seed
        self.device = device
        self.dtype = dtype
        self.workers = workers
        self.shares = shares or Shares(workers)
        self.roles = roles
        # Where batches are made of them: a copy for each batch would wait for the device.
        self._there = tuple(values.to(device) for values in (self.labels, self.keys, self.forget))
        # In the first batch of a pass: the last two numbers that differ by more than a factor of 2.
        self._last_rows: list[int] = []
        self.order = Order(self.keys, seed, stored, window)
        self._buffers = Buffers()
        shape = (1, 3, 1, 1)
        mean = torch.tensor(transform.mean, dtype=torch.float64).reshape(shape)
        std = torch.tensor(transform.std, dtype=torch.float64).reshape(shape)
        # (p / 255 − mean) / std for a pixel p of 0 … 255, as one product and one sum.
        self._scale = (1 / (255 * std)).to(device, dtype)
        self._shift = (-mean / std).to(device, dtype)

    def load(self) -> None:
        """Take the images to the GPU now, if they fit there: no cell's seconds hold that."""
        _ = self._on_device

    @cached_property
    def _on_device(self) -> DeviceImages | None:
        """What gives images on a GPU; None on a CPU."""
        return DeviceImages(self.pixels, self.device) if self.device.type == "cuda" else None

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
        normalised = self._normalised(shares, windows)
        for rows, total in zip(shares, totals, strict=True):
            index = self._sent(torch.from_numpy(rows))
            labels, keys, forget = (values[index] for values in self._there)
            yield Batch(
                images=next(normalised),  # with no name here, which would keep them for a batch
                labels=labels,
                rows=index,
                keys=keys,
                forget=forget,
                total=total,
            )

    def _release_memory(self, rows: int) -> None:
        """Release freed memory if batches are large, or of a size that the last passes had not.

        Fragments of other batch sizes cannot be reused. Fragments of this size can, and releasing
        them costs the system time, which does not matter beside a pass over large batches. Methods
        that walk two sets in turn have two sizes.
        """
        is_large = rows * math.prod(self.pixels.shape) * self.dtype.itemsize >= LARGE_BATCH
        alike = [last for last in self._last_rows if last / 2 <= rows <= last * 2]
        if is_large or not alike:
            release_memory()
        self._last_rows = [rows, *(last for last in self._last_rows if last not in alike)][:2]

    def _sent(self, values: Tensor) -> Tensor:
        """Return values on the device; to a GPU they go while it works."""
        if self.device.type == "cuda":
            values = values.pin_memory()
        return values.to(self.device, non_blocking=True)

    def _normalised(
        self, shares: Sequence[np.ndarray], windows: Sequence[np.ndarray] | None
    ) -> Iterator[Tensor]:
        """Yield the images [n, 3, H, W] of each share in turn, as the network wants them."""
        if self._on_device is not None:
            for levels in self._on_device.along(shares, windows):
                yield self._scaled(levels.to(self.dtype))
            return
        for rows, image in zip(shares, self.pixels.along(shares, windows), strict=True):
            yield self._normalised_here(rows.tolist(), image)

    def _normalised_here(self, rows: list[int], image: Image) -> Tensor:
        """Return the images at `rows` from a CPU."""
        shape = (len(rows), *self.pixels.shape)
        if math.prod(self.pixels.shape) >= LARGE:
            # One at a time, an image stays in the cache from the first step to the last.
            # NumPy, since torch would wake its other threads three times for each.
            images = self._buffers.empty(shape, self.dtype)
            scale, shift = self._scale[0].numpy(), self._shift[0].numpy()
            for pixels, row in zip(images.numpy(), rows, strict=True):
                np.copyto(pixels, image(row))
                np.multiply(pixels, scale, out=pixels)
                np.add(pixels, shift, out=pixels)
            return images
        levels = self._buffers.empty(shape, torch.uint8)
        for pixels, row in zip(levels.numpy(), rows, strict=True):
            np.copyto(pixels, image(row))
        return self._scaled(self._buffers.empty(shape, self.dtype).copy_(levels))

    def _scaled(self, levels: Tensor) -> Tensor:
        """Change levels of 0 … 255 to what the network wants, in place."""
        return levels.mul_(self._scale).add_(self._shift)
