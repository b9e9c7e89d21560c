"""Where each image lies in a shard of ours, so that a few of many are read without the others.

Images are stored as they came, neither compressed nor collected in a dictionary: each lies in one
stretch of the file, behind its size in four bytes. A file beside the shard holds these stretches.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lotus_ray.base.errors import DataError

_SUFFIX = ".spans.npy"
_PROBE = 24  # bytes of either end of an image, by which it is known


def offsets_path(shard: Path) -> Path:
    """Return the file that belongs to a shard."""
    return shard.with_name(shard.name + _SUFFIX)


class Probes:
    """Remembers sizes and ends of images while a shard is written, to find them in it."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, bytes, bytes]] = []

    def add(self, images: Iterable[bytes]) -> None:
        """Remember images, in the order in which they are written."""
        self._seen += [(len(image), image[:_PROBE], image[-_PROBE:]) for image in images]

    def write(self, shard: Path) -> None:
        """Find the images in a finished shard and write where they are.

        Raises:
            DataError: one is not there as it was written.
        """
        offsets = np.empty((len(self._seen), 2), np.int64)
        with shard.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            place = 0
            for row, (size, head, tail) in enumerate(self._seen):
                result = view.find(size.to_bytes(4, "little") + head, place)
                start, place = result + 4, result + 4 + size
                if result < 0 or view[max(place - len(tail), start) : place] != tail:
                    raise DataError(f"image {row} is not in the shard", where=str(shard))
                offsets[row] = start, size
        with offsets_path(shard).open("wb") as out:
            np.save(out, offsets, allow_pickle=False)


def read_offsets(shard: Path, rows: int) -> np.ndarray | None:
    """Return offset and size of each image, int64 [rows, 2]; None where they are not known."""
    try:
        result: np.ndarray = np.load(offsets_path(shard), allow_pickle=False)
    except (OSError, ValueError):
        return None
    fits = result.shape == (rows, 2) and result.dtype == np.int64 and bool((result >= 0).all())
    return result if fits else None


def read_stretches(shard: str, offsets: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the bytes of each stretch, an offset and a size, of a file."""
    with Path(shard).open("rb") as file:
        for offset, size in offsets:
            file.seek(offset)
            yield file.read(size)
