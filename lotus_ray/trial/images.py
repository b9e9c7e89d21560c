"""What a group works on: its table of roles, and the pixels of every image in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from lotus_ray.base.errors import DataError
from lotus_ray.data.pixels.cache import DecodedFiles
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.decode_task import Decode
from lotus_ray.data.pixels.lookup import Decoded, Pixels, StreamedPixels
from lotus_ray.data.pixels.row_groups import stored_order, wanted_row_groups
from lotus_ray.data.prepared.manifest import read_manifest
from lotus_ray.data.roles.table import Roles
from lotus_ray.job.cells import CellGroup


@dataclass
class TrialImages:
    """The images of a group on this node.

    `stored` [N] is each sample's place in the order of storage; `bad` says by sample id which
    images were left out because they cannot be decoded, and why.
    """

    roles: Roles
    pixels: Pixels | StreamedPixels
    stored: np.ndarray
    bad: dict[str, str]
    _files: DecodedFiles
    _told: int = 0

    def newly_decoded(self) -> int:
        """Return how many images this process decoded since it was last asked."""
        streamed = self.pixels.decoded if isinstance(self.pixels, StreamedPixels) else 0
        total = self._files.decoded + streamed
        new, self._told = total - self._told, total
        return new


@dataclass(frozen=True)
class Decoders:
    """How images are decoded: into files of this node, and as a stream.

    The stream takes `ahead_bytes`, how much of it may be decoded before it is asked for.
    """

    decode: Decode
    stream: Callable[..., Iterable[Decoded]]


def prepare_images(
    group: CellGroup, roles: Roles, cache_space: CacheSpace, decoders: Decoders, max_bad: int = 0
) -> TrialImages:
    """Make the images of a group available on this node, each decoded once.

    Args:
        group: the group.
        roles: its table of roles.
        room: where decoded images go.
        decoders: who decodes.
        max_bad: leave out so many images that cannot be decoded; none to forget.

    Returns:
        The material. Retained images for which there is no room stream, where the group shuffles
        within windows.

    Raises:
        DataError: an image is missing, there twice, or cannot be decoded; or there is no room.
    """
    row_groups = wanted_row_groups(group.manifests, roles)
    stored = _places(stored_order(row_groups), roles)
    content = " ".join(read_manifest(folder).digest for folder in group.manifests)
    files = DecodedFiles(cache_space, group.transform, content)
    files.ensure(row_groups, roles, decoders.decode, max_bad, group.shuffle_window)
    bad = files.bad_among(roles)
    if bad:
        kept = np.array([name not in bad for name in roles.sample_ids])
        roles = roles.without(bad)
        stored = np.argsort(np.argsort(stored[kept]))
    here = files.pixels(roles)
    if here.complete:
        return TrialImages(roles, here, stored, bad, files)
    if max_bad:
        raise DataError(
            "bad images can be left out only where all images are decoded first, and some stream",
            where="resources.max_bad_images",
            next_command="lotus-ray grid JOB.yaml --set resources.scratch=FOLDER (with more room)",
        )
    window_bytes = (group.shuffle_window or 0) * group.transform.image_bytes
    stream = partial(decoders.stream, ahead_bytes=window_bytes)
    streamed = StreamedPixels(here, row_groups, group.transform, stream)
    return TrialImages(roles, streamed, stored, bad, files)


def _places(order: np.ndarray, roles: Roles) -> np.ndarray:
    """Return the place of each sample in the order of storage, int64 [N].

    Raises:
        DataError: a sample is stored never, or more than once.
    """
    counts = np.bincount(order, minlength=len(roles))
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        raise DataError(
            f"{len(wrong)} samples are not stored exactly once; "
            f"{roles.sample_ids[wrong[0]]} is there {counts[wrong[0]]} times"
        )
    return np.argsort(order)
