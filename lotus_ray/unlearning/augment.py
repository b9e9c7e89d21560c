"""Random crops and flips of training batches, on the device of the images.

(seed, names, sample id) decide what happens to a sample; worker and order play no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lotus_ray.base import seeds
from lotus_ray.unlearning.contract import Batch
from lotus_ray.unlearning.progress import skip


def crop_and_flip(
    images: Tensor, keys: Tensor, padding: int, flip: bool, fill: Tensor, *names: object
) -> Tensor:
    """Shift each image by up to `padding` pixels either way, and mirror half of the images.

    y[c, i, j] = x[c, i + a, j + b], or fill[c] outside x; a and b are uniform over
    −padding … padding. A flipped image is y[c, i, W − 1 − j], with probability ½.

    Args:
        images: [N, 3, H, W], any dtype and device.
        keys: int64 [N], from `seeds.sample_keys`, on the same device.
        padding: pixels; 0 crops nothing.
        flip: True to flip.
        fill: [1, 3, 1, 1], the pixel outside an image.
        names: of the random stream, such as (seed, "augment", epoch).

    Returns:
        [N, 3, H, W] as `images`; `images` itself if there is nothing to do.

    Source: torchvision's RandomCrop(H, padding), then RandomHorizontalFlip(). Deviation:
    random numbers depend on the sample id, not on the order of samples.
    """
    if not padding and not flip:
        return images
    height, width = images.shape[2:]
    draws = seeds.uniform(keys, 3, *names)
    shifts = (draws[:, :2] * (2 * padding + 1)).long() - padding
    across = torch.arange(width, device=images.device).expand(len(images), width)
    if flip:
        across = torch.where(draws[:, 2:] < 0.5, width - 1 - across, across)
    rows = torch.arange(height, device=images.device) + shifts[:, :1]  # [N, H]
    columns = across + shifts[:, 1:]  # [N, W]
    index = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]
    index = index.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    picked = images.flatten(2).gather(2, index).view_as(images)
    inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None]
    return torch.where(inside[:, None], picked, fill.to(images))


def _within(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)


@dataclass(frozen=True)
class Augmented:
    """Batches whose images are cropped and flipped, the same way in each iteration."""

    batches: Iterable[Batch]
    padding: int
    flip: bool
    fill: Tensor
    names: tuple[object, ...]

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            images = crop_and_flip(
                batch.images, batch.keys, self.padding, self.flip, self.fill, *self.names
            )
            yield replace(batch, images=images)

    def after(self, count: int) -> Iterator[Batch]:
        """Return an iterator over the batches without the first `count`."""
        return iter(replace(self, batches=skip(self.batches, count)))
