"""Choose where decoded images go: to memory, to the local disk, or to neither, so they stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lotus_ray.base.errors import ImagesDoNotFit
from lotus_ray.base.roles import OTHER_TRAIN, RETAIN, STORED
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.roles.table import Roles

_MAY_STREAM = (RETAIN, OTHER_TRAIN)  # read once an epoch; other roles are read more often
WINDOWS_HELD = 3  # two that a batch may span, and one that is decoded ahead


def allocate(
    row_groups: list[RowGroupImages],
    roles: Roles,
    cache_space: CacheSpace,
    folders: tuple[Path, Path],
    image_bytes: int,
    window: int | None,
    own: np.ndarray | None = None,
) -> list[tuple[RowGroupImages, Path]]:
    """Choose a folder for each row group: memory first, then the disk.

    Args:
        row_groups: the images to decode.
        roles: the table of roles.
        cache_space: says how many bytes are left.
        folders: in memory, and on the disk.
        image_bytes: size of one decoded image.
        window: if all images do not fit, retained images may be left out, since they can stream in
            windows of this many images. Memory is kept free for the windows. None: no streaming.
        own: retained images that come before other retained ones, bool [N]. None: all are alike.

    Returns:
        Row groups, or parts of them, with their folder.

    Raises:
        ImagesDoNotFit: images that cannot stream do not fit.
    """
    memory, disk = folders
    left = {memory: cache_space.memory_left(), disk: cache_space.disk_left()}
    need = sum(map(len, row_groups)) * image_bytes
    groups = [row_groups]
    if window is not None and need > sum(left.values()):
        windows = window * WINDOWS_HELD * image_bytes
        if windows > cache_space.memory_bytes:
            raise _no_cache_space(cache_space, need, 0, left[disk], window)
        left[memory] = max(left[memory] - windows, 0)
        groups = _by_turn(row_groups, roles, own)
    free_memory, free_disk = left[memory], left[disk]
    chosen = []
    for streams, group in enumerate(groups):
        for row_group in (row_group for row_group in group if len(row_group)):
            size = len(row_group) * image_bytes
            folder = next((folder for folder in left if size <= left[folder]), None)
            if folder is None and not streams:
                raise _no_cache_space(cache_space, need, free_memory, free_disk, window)
            if folder is not None:
                left[folder] -= size
                chosen.append((row_group, folder))
    return chosen


def _by_turn(
    row_groups: Sequence[RowGroupImages], roles: Roles, own: np.ndarray | None
) -> list[list[RowGroupImages]]:
    """Return the images that cannot stream, then own ones that can, then the others that can."""
    may = np.isin(roles.roles, [STORED.index(role) for role in _MAY_STREAM])
    own = may if own is None else may & own
    return [
        [row_group.only(images[row_group.rows]) for row_group in row_groups]
        for images in (~may, own, may & ~own)
    ]


def _no_cache_space(
    cache_space: CacheSpace, need: int, memory: int, disk: int, window: int | None
) -> ImagesDoNotFit:
    """Return the error for images that do not fit, with the setting that helps most."""
    kept = "" if window is None else f", beside {WINDOWS_HELD} windows of {window} images"
    advice = (
        "resources.scratch=FOLDER (on a larger disk)"
        if window is not None
        else "dataset.shuffle_window=4096 (lets retained images stream)"
    )
    return ImagesDoNotFit(
        f"decoded images need {need} bytes; there is room for {memory} in memory"
        f"{kept}, and for {disk} on the disk",
        where=f"{cache_space.memory.parent} and {cache_space.scratch}",
        nearest="resources.decoded_memory_gb, resources.decoded_disk_gb, resources.scratch",
        next_command=f"lotus-ray grid JOB.yaml --set {advice}",
    )
