"""Images that the caller holds in memory, as the network wants them: none is decoded."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lotus_ray.base.errors import DataError
from lotus_ray.base.roles import STORED
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.roles.table import Roles
from lotus_ray.unlearning.contract import Workers

NEXT = "give (images, labels), two tensors, or a Dataset whose items are (image tensor, label)"


@dataclass(frozen=True)
class Samples:
    """The samples of one role."""

    role: str
    images: Tensor  # [N, C, H, W], floating point
    labels: Tensor  # [N], int64

    @classmethod
    def read(cls, role: str, given: Any) -> Samples:
        """Take samples from two tensors, or read each item of a Dataset once.

        Args:
            role: that they play.
            given: (images [N, C, H, W], labels [N]), or a Dataset of (image [C, H, W], label).

        Raises:
            DataError: there are none, or they are no such samples. The text says which.
        """
        pair = getattr(given, "tensors", given)  # of a TensorDataset
        if isinstance(pair, tuple | list) and len(pair) == 2 and torch.is_tensor(pair[0]):
            images, labels = pair[0], torch.as_tensor(pair[1])
        else:
            images, labels = _items(role, given)
        _check(role, images, labels)
        return cls(role, images.detach().cpu(), labels.detach().cpu().long())


def _items(role: str, given: Any) -> tuple[Tensor, Tensor]:
    """Read every item of a data set."""
    if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
        what = "a DataLoader: give its .dataset" if hasattr(given, "dataset") else "no data set"
        raise DataError(f"{type(given).__name__} is {what}", where=role, next_command=NEXT)
    images, labels = list[Tensor](), list[int]()
    for index in range(len(given)):
        item = given[index]
        where = f"{role}[{index}]"
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise DataError(
                f"an item is {type(item).__name__}, and not (image, label)",
                where=where,
                next_command=NEXT,
            )
        image, label = item[0], item[1]
        if not torch.is_tensor(image):
            raise DataError(
                f"an image is {type(image).__name__}, and not a tensor",
                where=where,
                nearest="a Dataset with transform=ToTensor() and the model's Normalize",
            )
        if images and image.shape != images[0].shape:
            raise DataError(
                f"an image has shape {list(image.shape)}, and the first {list(images[0].shape)}",
                where=where,
                next_command="resize all images to one shape",
            )
        try:
            labels.append(int(label) if int(label) == label else -1)
        except (TypeError, ValueError) as error:
            raise DataError(f"a label is no integer: {label!r}", where=where) from error
        images.append(image)
    return torch.stack(images) if images else torch.empty(0, 1, 1, 1), torch.tensor(labels)


def _check(role: str, images: Tensor, labels: Tensor) -> None:
    """Raise DataError if images are no finite numbers [N, C, H, W], or labels no integers [N]."""
    what, then = "", NEXT
    if not len(images):
        what = "there are no images"
    elif images.ndim != 4:
        what = f"images have shape {list(images.shape)}, and not [N, C, H, W]"
    elif labels.shape != images.shape[:1]:
        what = f"there are {len(images)} images, and labels of shape {list(labels.shape)}"
    elif not images.is_floating_point():
        what = f"images are {images.dtype}, and the network wants them normalised"
        then = "(images.float() / 255 - mean) / std, with the mean and std of the model's training"
    elif not bool(images.isfinite().all()):
        what = "an image holds NaN or infinity"
    elif labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        what = f"labels are {labels.dtype}, and not integers"
    if what:
        raise DataError(what, where=role, next_command=then)


class GivenImages(ImageDataset):
    """Images, labels and roles of samples in memory, on one worker."""

    def __init__(
        self,
        samples: Sequence[Samples],
        num_classes: int,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        sample_ids: Mapping[str, Sequence[str]] | None = None,
        pixel_range: tuple[Any, Any] | None = None,
    ) -> None:
        """Put the samples of all roles into one table.

        Args:
            samples: of each role.
            num_classes: C.
            seed: of orders.
            device: of batches.
            dtype: of batches.
            sample_ids: of each sample, by role: they select its random numbers. Default: made from
                role and index.
            pixel_range: of a black and a white pixel, a number or one for each channel. Default:
                the lowest and the highest value of each channel.

        Raises:
            DataError: shapes differ, a label is none of the classes, or ids do not fit.
        """
        for each in samples:
            _check_fits(each, samples[0], num_classes)
        given = dict(sample_ids or {})
        if strange := given.keys() - {each.role for each in samples}:
            roles_there = ", ".join(each.role for each in samples)
            raise DataError(
                f"there are no samples of {min(map(str, strange))}",
                where="sample_ids",
                nearest=f"one of {roles_there}",
            )
        ids = [name for each in samples for name in _ids(each, given)]
        if len(set(ids)) < len(ids):
            raise DataError("two samples have one id", where="sample_ids")
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__))
        codes = [np.full(len(each.labels), STORED.index(each.role), np.int8) for each in samples]
        roles = Roles(
            [ids[row] for row in order],
            torch.cat([each.labels for each in samples]).numpy()[order],
            np.concatenate(codes)[order],
            num_classes,
        )
        images = torch.cat([each.images.to(dtype) for each in samples])[torch.from_numpy(order)]
        pixels, unused = Pixels.of(images.numpy()), Transform(images.shape[-1])
        super().__init__(pixels, roles, unused, seed, device, dtype, Workers())
        self._images = images
        self._range = _pixel_range(images, pixel_range)

    @property
    def pixel_range(self) -> tuple[Tensor, Tensor]:
        """Return a black and a white pixel as batches hold them, [1, C, 1, 1] each."""
        black, white = (value.to(self.device) for value in self._range)
        return black, white

    def _normalised(
        self, shares: Sequence[np.ndarray], windows: Sequence[np.ndarray] | None
    ) -> Iterator[Tensor]:
        for rows in shares:
            yield self._sent(self._images[torch.from_numpy(rows)])


def _check_fits(samples: Samples, first: Samples, num_classes: int) -> None:
    """Raise DataError if images differ in shape from the first, or a label is out of range."""
    shape, wanted = list(samples.images.shape[1:]), list(first.images.shape[1:])
    if shape != wanted:
        raise DataError(
            f"images have shape {shape}, and those of {first.role} {wanted}", where=samples.role
        )
    wrong = ((samples.labels < 0) | (samples.labels >= num_classes)).nonzero()[:, 0].tolist()
    if wrong:
        raise DataError(
            f"{len(wrong)} labels are none of the model's {num_classes} classes; the first is "
            f"{int(samples.labels[wrong[0]])}",
            where=f"{samples.role}[{wrong[0]}]",
            nearest=f"0 … {num_classes - 1}",
        )


def _ids(samples: Samples, given: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Return the ids of samples.

    Raises:
        DataError: there are not as many ids as samples.
    """
    count = len(samples.labels)
    made = [f"{samples.role}/{index:09d}" for index in range(count)]
    ids = given.get(samples.role, made)
    if len(ids) != count:
        raise DataError(
            f"there are {len(ids)} ids and {count} samples", where=f"sample_ids: {samples.role}"
        )
    return ids


def _pixel_range(images: Tensor, given: tuple[Any, Any] | None) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest value of each channel, or what is given, [1, C, 1, 1] each."""
    if given is None:
        return images.amin(dim=(0, 2, 3), keepdim=True), images.amax(dim=(0, 2, 3), keepdim=True)
    channels = images.shape[1]
    try:
        black, white = (
            torch.as_tensor(value, dtype=images.dtype).flatten().expand(channels) for value in given
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"a black and a white pixel of {channels} channels are needed: {given!r}",
            where="pixel_range",
        ) from error
    return black.reshape(1, -1, 1, 1), white.reshape(1, -1, 1, 1)


def check_apart(samples: Iterable[Samples]) -> None:
    """Compare the images of roles; equal values are the same image.

    A few shared images give a warning: data sets hold the same image twice.

    Raises:
        DataError: a role holds every image of another, as if one were cut from the other.
    """
    digests = {each.role: set(map(_digest, each.images)) for each in samples}
    for (one, ours), (other, theirs) in combinations(digests.items(), 2):
        shared = len(ours & theirs)
        if not shared:
            continue
        inner, outer = (one, other) if len(ours) <= len(theirs) else (other, one)
        if shared == len(digests[inner]):
            raise DataError(
                f"every image of {inner} is in {outer} too",
                where=f"{one}, {other}",
                next_command=f"leave the images of {inner} out of {outer}",
            )
        warnings.warn(f"{shared} images are in {one} and in {other}", stacklevel=4)


def _digest(image: Tensor) -> bytes:
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=16).digest()
