"""Fetch decoded images from the store into a file of this node."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from lotus_ray.base.errors import StoreError, StoreUnreachable
from lotus_ray.data.pixels.chunks import ChunkFolder, ChunkLost, ChunkRecord
from lotus_ray.data.pixels.decode_task import DecodeTask
from lotus_ray.data.pixels.image_file import Batch, write_images
from lotus_ray.data.pixels.row_groups import ROWS_AT_A_TIME

FILES_AT_ONCE = 4
Kept = Mapping[str, tuple[ChunkRecord, int]]  # chunk, and index in it, by sample id
_log = logging.getLogger(__name__)


def kept(records: Iterable[ChunkRecord]) -> Kept:
    """Return where each image is kept. An image that was bad at first is in two chunks."""
    where: dict[str, tuple[ChunkRecord, int]] = {}
    for record in records:
        for index, name in enumerate(record.sample_ids):
            if name not in record.bad or name not in where:
                where[name] = record, index
    return where


def fetch_all(tasks: Sequence[DecodeTask], folder: ChunkFolder, where: Kept) -> int:
    """Write the files of some tasks from chunks. Images whose chunk is damaged are decoded here.

    Args:
        tasks: one per file.
        folder: of the chunks.
        where: images that are kept. An image that is not is decoded here.

    Returns:
        How many images were decoded here.

    Raises:
        DataError: a file cannot be written, or an image cannot be decoded.
        StoreError: the store cannot be reached.
    """
    with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        return sum(pool.map(partial(_fetch, folder=folder, where=where), tasks))


def _fetch(task: DecodeTask, folder: ChunkFolder, where: Kept) -> int:
    row_group = task.row_group
    try:
        batches = _batches(row_group.sample_ids, folder, where)
        write_images(task.path, task.transform, len(row_group), batches)
    except StoreUnreachable:
        raise
    except StoreError as error:
        _log.warning("%s: %s; they are decoded again", error.where, error.what)
        return task.run()
    return 0


def _batches(names: Sequence[str], folder: ChunkFolder, where: Kept) -> Iterator[Batch]:
    """Yield images, ROWS_AT_A_TIME at a time, chunk by chunk."""
    indices = defaultdict[str, list[int]](list)
    records = {}
    if not where.keys() >= set(names):
        raise StoreError("some decoded images are in no chunk", where=folder.store)
    for record, index in (where[name] for name in names):
        indices[record.name].append(index)
        records[record.name] = record
    for name, record in records.items():
        ordered = sorted(indices[name])
        for start in range(0, len(ordered), ROWS_AT_A_TIME):
            part = ordered[start : start + ROWS_AT_A_TIME]
            ids = [record.sample_ids[index] for index in part]
            try:
                pixels = folder.read(record, part)
            except ChunkLost:
                with suppress(StoreError):
                    folder.discard(record)
                raise
            yield Batch(ids, pixels, [record.bad.get(each) for each in ids])
