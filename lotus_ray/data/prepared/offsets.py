"""Byte offsets of the images in a shard, so that a few images are read without the others.

Our shards store images without compression or dictionary. So each image is one contiguous range of
the file, after its size in four bytes. While a data set is prepared, a file beside each shard holds
these offsets and sizes; then they go into the index.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.parquet import open_file

_SUFFIX = ".spans.npy"
_PROBE = 24  # bytes at each end of an image, to find it by
GAP = 256 << 10  # bytes that are read in vain sooner than a request more is made
MOST = 4 << 20  # bytes of a request that joins several images
IN_FLIGHT = 32  # requests at once


def offsets_path(shard: Path) -> Path:
    """Return the path of a shard's offsets."""
    return shard.with_name(shard.name + _SUFFIX)


class Probes:
    """Remembers the size and ends of each image while a shard is written, to find it later."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, bytes, bytes]] = []

    def add(self, images: Iterable[bytes]) -> None:
        """Remember images, in the order in which they are written."""
        self._seen += [(len(image), image[:_PROBE], image[-_PROBE:]) for image in images]

    def write(self, shard: Path) -> None:
        """Find the images in a finished shard and write their offsets.

        Raises:
            DataError: an image is not in the shard.
        """
        offsets = np.empty((len(self._seen), 2), np.int64)
        with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            end = 0
            for row, (size, head, tail) in enumerate(self._seen):
                result = view.find(size.to_bytes(4, "little") + head, end)
                start, end = result + 4, result + 4 + size
                if result < 0 or view[max(end - len(tail), start) : end] != tail:
                    raise DataError(f"image {row} is not in the shard", where=str(shard))
                offsets[row] = start, size
        with offsets_path(shard).open("wb") as out:
            np.save(out, offsets, allow_pickle=False)


def read_offsets(shard: Path, rows: int) -> np.ndarray | None:
    """Return offset and size of each image in bytes, int64 [rows, 2]; None if there are none."""
    try:
        result: np.ndarray = np.load(offsets_path(shard), allow_pickle=False)
    except (OSError, ValueError):
        return None
    fits = result.shape == (rows, 2) and result.dtype == np.int64 and bool((result >= 0).all())
    return result if fits else None


def read_ranges(shard: str, offsets: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield byte ranges of a file. Of a file in a bucket, near ones are read by one request.

    Args:
        shard: path or address of the file.
        offsets: offset and size of each range in bytes, by rising offset.
    """
    if "://" in shard:
        yield from _read_far(shard, offsets)
        return
    with Path(shard).open("rb") as file:
        for offset, size in offsets:
            file.seek(offset)
            yield file.read(size)


def _read_far(uri: str, offsets: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield byte ranges of a file in a bucket: IN_FLIGHT requests at once, in order."""
    waiting: deque[tuple[Requested, Future[bytes]]] = deque()
    with open_file(uri) as file, ThreadPoolExecutor(IN_FLIGHT) as pool:
        for request in joined(offsets):
            waiting.append((request, pool.submit(file.read_at, request.size, request.offset)))
            if len(waiting) == IN_FLIGHT:
                yield from _cut(*waiting.popleft())
        while waiting:
            yield from _cut(*waiting.popleft())


class Requested(NamedTuple):
    """One request: bytes of a file, and the ranges that it is made for."""

    offset: int
    size: int
    ranges: list[tuple[int, int]]


def joined(offsets: Sequence[tuple[int, int]], gap: int = GAP) -> Iterator[Requested]:
    """Join ranges into requests: over gaps of `gap` bytes at most, and up to MOST bytes."""
    ranges: list[tuple[int, int]] = []
    begin = end = 0
    for offset, size in offsets:
        if ranges and not (0 <= offset - end <= gap and offset + size - begin <= MOST):
            yield Requested(begin, end - begin, ranges)
            ranges = []
        if not ranges:
            begin = offset
        ranges.append((offset, size))
        end = offset + size
    if ranges:
        yield Requested(begin, end - begin, ranges)


def _cut(request: Requested, reply: Future[bytes]) -> Iterator[bytes]:
    content = reply.result()
    for offset, size in request.ranges:
        start = offset - request.offset
        yield content[start : start + size]
