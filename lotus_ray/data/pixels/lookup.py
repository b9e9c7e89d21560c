"""Pixels by row: cached ones, and ones that are streamed, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Self

import numpy as np

from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform

Image = Callable[[int], np.ndarray]  # row -> uint8 [3, H, W]
Decoded = tuple[np.ndarray, np.ndarray]  # rows [n] and pixels [n, 3, H, W]
Stream = Callable[
    [Sequence[RowGroupImages], Transform], Iterable[Decoded]
]  # in the order of the row groups


def stream_here(
    row_groups: Sequence[RowGroupImages],
    transform: Transform,
    threads: int = 1,
    ahead_bytes: int = 0,
) -> Iterator[Decoded]:
    """Decode row groups in this process, on `threads` threads, when they are needed.

    Args:
        row_groups: the images.
        transform: from encoded images to pixels.
        threads: that decode.
        ahead_bytes: ignored: nothing is decoded ahead.

    Yields:
        Rows [n] and pixels [n, 3, H, W] in the order of the row groups.
    """
    for row_group in row_groups:
        for encoded in row_group.read():
            yield encoded.rows, encoded.decode(transform, threads)


@dataclass(frozen=True)
class Pixels:
    """Cached pixels by row of the table of roles. They are in blocks, which are not copied."""

    blocks: Sequence[np.ndarray]  # uint8 [n, 3, H, W] each
    block: np.ndarray  # int64 [N]: index into `blocks`; −1 if an image is not cached
    index: np.ndarray  # int64 [N]: index into the block
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, images: np.ndarray) -> Self:
        """Return the pixels of an array of all images, uint8 [N, 3, H, W]."""
        count, *shape = images.shape
        return cls([images], np.zeros(count, np.int64), np.arange(count), tuple(shape))

    @property
    def complete(self) -> bool:
        """True if every image is cached."""
        return bool(self.held.all())

    @property
    def held(self) -> np.ndarray:
        """True for each image that is cached, bool [N]."""
        cached: np.ndarray = self.block >= 0
        return cached

    def image(self, row: int) -> np.ndarray:
        """Return one cached image, uint8 [3, H, W]."""
        result: np.ndarray = self.blocks[self.block[row]][self.index[row]]
        return result

    def along(
        self, shares: Sequence[np.ndarray], windows: Sequence[np.ndarray] | None
    ) -> Iterator[Image]:
        """Yield, for each share of rows in turn, a function from row to image."""
        return repeat(self.image, len(shares))


@dataclass
class StreamedPixels:
    """Pixels of which some are not cached: those are decoded each time, window by window.

    Memory holds the windows of one share of a batch, and the images that are decoded ahead.
    """

    here: Pixels
    row_groups: Sequence[RowGroupImages]
    transform: Transform
    stream: Stream
    decoded: int = 0  # images so far
    _group_of: np.ndarray = field(init=False)  # int64 [N]: index into `row_groups`
    _index_of: np.ndarray = field(init=False)  # int64 [N]: index into the row group

    def __post_init__(self) -> None:
        self._group_of = np.full(len(self.here.block), -1)
        self._index_of = np.full(len(self.here.block), -1)
        for number, row_group in enumerate(self.row_groups):
            self._group_of[row_group.rows] = number
            self._index_of[row_group.rows] = np.arange(len(row_group))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image."""
        return self.here.shape

    @property
    def held(self) -> np.ndarray:
        """True for each image that is cached, bool [N]."""
        return self.here.held

    def along(
        self, shares: Sequence[np.ndarray], windows: Sequence[np.ndarray] | None
    ) -> Iterator[Image]:
        """Yield, for each share of rows in turn, a function from row to image.

        Args:
            shares: rows [n] each, in the order of windows.
            windows: of each row of each share [n]. A row may be in several windows.
        """
        is_cold = [self.here.block[share] < 0 for share in shares]
        if windows is None or not any(map(np.any, is_cold)):
            yield from self.here.along(shares, windows)
            return
        needed = [window[cold] for window, cold in zip(windows, is_cold, strict=True)]
        cold_rows = [share[cold] for share, cold in zip(shares, is_cold, strict=True)]
        rows_of = _rows_of(np.concatenate(needed), np.concatenate(cold_rows))
        parts = [list(self._groups_of(rows)) for rows in rows_of.values()]
        stream = iter(
            self.stream([row_group for part in parts for row_group in part], self.transform)
        )
        held: dict[int, _Window] = {}
        largest = max(map(len, rows_of.values()))
        free = [np.empty((largest, *self.shape), np.uint8) for _ in range(2)]
        following = iter(rows_of.items())
        for needed_now in needed:
            for number in [n for n in held if n < min(needed_now, default=0)]:
                free.append(held.pop(number).images)  # reuse the memory
            while len(needed_now) and max(held, default=-1) < max(needed_now):
                number, rows = next(following)
                images = free.pop() if free else np.empty_like(next(iter(held.values())).images)
                held[number] = self._load(stream, len(rows), images)
            yield self._among(list(held.values()))

    def _groups_of(self, rows: np.ndarray) -> Iterator[RowGroupImages]:
        """Yield the parts of row groups that hold `rows`, in the order of storage."""
        numbers = self._group_of[rows]
        for number in np.unique(numbers):
            yield self.row_groups[number].only(np.sort(self._index_of[rows[numbers == number]]))

    def _load(self, stream: Iterator[Decoded], count: int, images: np.ndarray) -> _Window:
        """Take `count` images from the stream into `images`."""
        index_of: dict[int, int] = {}
        while len(index_of) < count:
            rows, pixels = next(stream)
            start = len(index_of)
            images[start : start + len(rows)] = pixels
            index_of.update(zip(rows.tolist(), range(start, start + len(rows)), strict=True))
        self.decoded += count
        return _Window(images, index_of)

    def _among(self, windows: Sequence[_Window]) -> Image:
        def image(row: int) -> np.ndarray:
            for window in windows:
                index = window.index_of.get(row)
                if index is not None:
                    result: np.ndarray = window.images[index]
                    return result
            return self.here.image(row)

        return image


@dataclass(frozen=True)
class _Window:
    """Decoded images of one window, and the index of each row in `images`."""

    images: np.ndarray  # uint8 [n, 3, H, W]
    index_of: dict[int, int]


def _rows_of(windows: np.ndarray, rows: np.ndarray) -> dict[int, np.ndarray]:
    """Return the distinct rows of each window, in the order of windows; of pairs [n] and [n]."""
    order = np.lexsort((rows, windows))
    windows, rows = windows[order], rows[order]
    is_new = np.ones(len(rows), dtype=bool)
    is_new[1:] = (np.diff(windows) != 0) | (np.diff(rows) != 0)
    windows, rows = windows[is_new], rows[is_new]
    numbers, first = np.unique(windows, return_index=True)
    return dict(zip(numbers.tolist(), np.split(rows, first[1:]), strict=True))
