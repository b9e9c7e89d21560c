"""Images on the way to a GPU: all wait there if they fit, else the next batch is read ahead.

They travel as uint8, which is a quarter of float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from lotus_ray.data.pixels.lookup import Image, Pixels

RESIDENT_SHARE = 0.05  # of a GPU's free memory, for the images of one group; two groups are open
FILL_ROWS = 1024  # images that go to the GPU together at first
Value = TypeVar("Value")


class PixelSource(Protocol):
    """Gives decoded images: `Pixels`, or `StreamedPixels` where some are not here."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of an image."""

    def along(
        self, shares: Sequence[np.ndarray], windows: Sequence[np.ndarray] | None
    ) -> Iterator[Image]:
        """Yield, for each share of rows in turn, what gives its images."""


class DeviceImages:
    """The images of a data set as uint8 on a device."""

    def __init__(
        self, pixels: PixelSource, device: torch.device, budget: int | None = None
    ) -> None:
        """Take all images to the device, if they are decoded and fit.

        Args:
            pixels: the images.
            device: where batches are made.
            budget: bytes that they may take there; None: a part of what a GPU has free.
        """
        self._pixels = pixels
        self._device = device
        free = torch.cuda.mem_get_info(device)[0] if budget is None else 0
        self._resident = self._filled(int(RESIDENT_SHARE * free) if budget is None else budget)

    @property
    def are_resident(self) -> bool:
        """True if all images are on the device."""
        return self._resident is not None

    def along(
        self, shares: Sequence[np.ndarray], windows: Sequence[np.ndarray] | None
    ) -> Iterator[Tensor]:
        """Yield the images of each share of rows in turn, uint8 [n, 3, H, W], on the device.

        Args:
            shares: rows [n] each, int64, in the order of windows.
            windows: of each row of each share [n], or None.
        """
        if self._resident is not None:
            for rows in shares:
                index = self._pinned(torch.from_numpy(rows)).to(self._device, non_blocking=True)
                yield self._resident[index]
            return
        images = self._pixels.along(shares, windows)
        read = (self._read(rows, image) for rows, image in zip(shares, images, strict=True))
        for levels in one_ahead(read):
            yield levels.to(self._device, non_blocking=True)

    def _filled(self, budget: int) -> Tensor | None:
        """Return all images on the device, [N, 3, H, W]; None if some are not here, or too many."""
        pixels = self._pixels
        if not isinstance(pixels, Pixels) or not pixels.complete:
            return None
        shape = (len(pixels.block), *pixels.shape)
        if np.prod(shape, dtype=np.int64) > budget:
            return None
        resident = torch.empty(shape, dtype=torch.uint8, device=self._device)
        for start in range(0, len(resident), FILL_ROWS):
            part = resident[start : start + FILL_ROWS]
            part.copy_(self._read(np.arange(start, start + len(part)), pixels.image))
        return resident

    def _read(self, rows: np.ndarray, image: Image) -> Tensor:
        """Return images of this machine, in memory that a GPU reads while it works."""
        shape = (len(rows), *self._pixels.shape)
        levels = torch.empty(shape, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        for pixels, row in zip(levels.numpy(), rows.tolist(), strict=True):
            np.copyto(pixels, image(row))
        return levels

    def _pinned(self, values: Tensor) -> Tensor:
        return values.pin_memory() if self._device.type == "cuda" else values


def one_ahead(values: Iterator[Value]) -> Iterator[Value]:
    """Yield values, none of them None. A thread makes the next one while the caller uses one.

    Raises:
        Exception: what making a value raised, when its turn comes.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="next batch") as thread:
        coming = thread.submit(next, values, None)
        while (value := coming.result()) is not None:
            coming = thread.submit(next, values, None)
            yield value
