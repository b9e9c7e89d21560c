"""The images of a group: its table of roles, and the pixels of every image in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np

from lotus_ray.base.errors import DataError, ImagesDoNotFit
from lotus_ray.data.batches.shares import home
from lotus_ray.data.pixels.cache import DecodedFiles
from lotus_ray.data.pixels.cache_space import CacheSpace, Waiting
from lotus_ray.data.pixels.decode_task import Decode
from lotus_ray.data.pixels.lookup import Decoded, Pixels, StreamedPixels
from lotus_ray.data.pixels.wanted import stored_order, wanted_row_groups
from lotus_ray.data.prepared.manifest import read_manifest
from lotus_ray.data.roles.table import Roles
from lotus_ray.job.cells import CellGroup
from lotus_ray.unlearning.contract import Workers

ONE_WORKER = Workers()


@dataclass
class TrialImages:
    """The images of a group on this node."""

    roles: Roles
    pixels: Pixels | StreamedPixels
    stored: np.ndarray  # [N], int64: rank of each sample in the order of storage
    bad: dict[str, str]  # why an image was left out, by sample id
    files: DecodedFiles
    _counted: int = 0

    @property
    def streamed(self) -> int:
        """How many images were decoded as a stream so far."""
        return self.pixels.decoded if isinstance(self.pixels, StreamedPixels) else 0

    def newly_decoded(self) -> int:
        """Return how many images this process decoded since the last call."""
        total = self.files.decoded + self.streamed
        new, self._counted = total - self._counted, total
        return new


@dataclass(frozen=True)
class Decoders:
    """The two ways to decode images: into files of this node, and as a stream.

    `stream` takes `ahead_bytes`: how much it decodes before that is used. `waiting` returns a
    context that is open while another process of the node decodes.
    """

    decode: Decode
    stream: Callable[..., Iterable[Decoded]]
    waiting: Waiting = nullcontext


def prepare_images(
    group: CellGroup,
    roles: Roles,
    cache_space: CacheSpace,
    decoders: Decoders,
    max_bad: int = 0,
    workers: Workers = ONE_WORKER,
) -> TrialImages:
    """Make the images of a group available on this node, each decoded once.

    Args:
        group: the group.
        roles: its table of roles.
        cache_space: where decoded images are kept.
        decoders: decode images.
        max_bad: leave out up to so many images that cannot be decoded. Forget images never are.
        workers: of the place. Where a node cannot keep all images, it keeps its part first.

    Returns:
        The images. If the group shuffles within windows, retained images that do not fit in the
        cache space are streamed.

    Raises:
        DataError: an image is missing, stored twice, or cannot be decoded; or the cache space is
            too small.
    """
    row_groups = wanted_row_groups(group.manifests, roles)
    stored = _ranks(stored_order(row_groups), roles)
    files = files_of(group, cache_space)
    own = home(stored, workers) == workers.node_of[workers.rank]
    window = group.shuffle_window
    files.ensure(row_groups, roles, decoders.decode, max_bad, window, decoders.waiting, own)
    bad = files.bad_among(roles)
    if bad:
        kept = np.array([name not in bad for name in roles.sample_ids])
        roles = roles.without(bad)
        stored = np.argsort(np.argsort(stored[kept]))
    here = files.pixels(roles)
    if here.complete:
        return TrialImages(roles, here, stored, bad, files)
    if max_bad:
        raise ImagesDoNotFit(
            "bad images can be left out only if all images fit in the cache space, and some do not",
            where="resources.max_bad_images",
            next_command="lotus-ray grid JOB.yaml --set resources.scratch=FOLDER (with more room)",
        )
    window_bytes = (group.shuffle_window or 0) * group.transform.image_bytes
    stream = partial(decoders.stream, ahead_bytes=window_bytes)
    streamed = StreamedPixels(here, row_groups, group.transform, stream)
    return TrialImages(roles, streamed, stored, bad, files)


def files_of(group: CellGroup, cache_space: CacheSpace) -> DecodedFiles:
    """Return the decoded images of a group's data sets on this node. Nothing is decoded yet."""
    content = " ".join(read_manifest(folder).digest for folder in group.manifests)
    return DecodedFiles(cache_space, group.transform, content)


def _ranks(order: np.ndarray, roles: Roles) -> np.ndarray:
    """Return the rank of each sample in the order of storage, int64 [N].

    Raises:
        DataError: a sample is not stored, or stored more than once.
    """
    counts = np.bincount(order, minlength=len(roles))
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        raise DataError(
            f"{len(wrong)} samples are not stored exactly once; "
            f"{roles.sample_ids[wrong[0]]} is there {counts[wrong[0]]} times"
        )
    return np.argsort(order)
