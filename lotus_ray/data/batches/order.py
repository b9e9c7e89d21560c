"""In which order an epoch meets its samples: shuffled exactly, or within windows of what is stored.

Both orders are drawn from (seed, names) and the sample ids alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lotus_ray.base import seeds

BLOCKS_A_WINDOW = 8


@dataclass(frozen=True)
class Order:
    """The order of samples, by row of the table of roles.

    Without `window` an epoch is a uniformly random order of all its samples. With it, the samples
    as they are stored are cut into blocks of window / 8; these come in random order, and the
    samples of each window of consecutive blocks are shuffled. So only `window` images need be at
    hand. Shards are stored in random order, which makes every block a random sample of its split;
    but two samples stored side by side meet in a window in every epoch.

    Rows that occur more than once are met in passes, one after another, each in an order and in
    windows of its own.
    """

    keys: Tensor  # int64 [N], from seeds.sample_keys
    seed: int
    stored: np.ndarray | None = None  # int64 [N]: place of each sample in the order of storage
    window: int | None = None  # samples

    def drawn(self, rows: np.ndarray, *names: object) -> np.ndarray:
        """Return `rows` [n] in a uniformly random order, whatever the window."""
        return rows[np.argsort(self._scores(rows, *names), kind="stable")]

    def fixed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `rows` [n] in an order that is always the same, and the window of each, if any."""
        if self.window is None:
            return rows, None
        return self._as_stored(rows), np.arange(len(rows)) // self.window

    def epoch(
        self, rows: np.ndarray, ends: Sequence[int], *names: object
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the order of an epoch.

        Args:
            rows: int64 [n], rising.
            ends: where in the order each batch ends. Copies of a row share a batch only if a batch
                holds more samples than there are distinct rows, or a window leaves no choice.
            names: of the random stream.

        Returns:
            The rows [n], and the window of each of them, rising; None without windows.
        """
        ordered, windows = [rows[:0]], [rows[:0]]
        for turn, part in enumerate(passes(rows)):
            shuffled, window = self._shuffled(part, *names, *(("repeat", turn) if turn else ()))
            ordered.append(shuffled)
            windows.append(window + (windows[-1][-1] + 1 if turn else 0))
        result, window = np.concatenate(ordered), np.concatenate(windows)
        if len(ordered) > 2:
            _keep_copies_apart(result, window, ends)
        return result, None if self.window is None else window

    def _shuffled(self, rows: np.ndarray, *names: object) -> tuple[np.ndarray, np.ndarray]:
        """Return distinct rows [n] in random order, and the window of each: 0 where all is one."""
        if self.window is None:
            return self.drawn(rows, "shuffle", *names), np.zeros(len(rows), np.int64)
        stored = self._as_stored(rows)
        block = np.arange(len(stored)) // max(self.window // BLOCKS_A_WINDOW, 1)
        first = stored[np.flatnonzero(np.diff(block, prepend=-1))]
        turn = np.argsort(np.argsort(self._scores(first, "blocks", *names), kind="stable"))
        rows = stored[np.argsort(turn[block], kind="stable")]
        window = np.arange(len(rows)) // self.window
        return rows[np.lexsort((self._scores(rows, "shuffle", *names), window))], window

    def _scores(self, rows: np.ndarray, *names: object) -> np.ndarray:
        result: np.ndarray = seeds.scores(
            self.keys[torch.from_numpy(rows)], self.seed, *names
        ).numpy()
        return result

    def _as_stored(self, rows: np.ndarray) -> np.ndarray:
        assert self.stored is not None
        return rows[np.argsort(self.stored[rows], kind="stable")]


def passes(rows: np.ndarray) -> list[np.ndarray]:
    """Split ascending rows [n] into passes of distinct rows. Shorter passes come first.

    Where two passes meet, at least one is full. So a batch across both can avoid copies.
    """
    if not (rows[1:] == rows[:-1]).any():
        return [rows]
    distinct, counts = np.unique(rows, return_counts=True)
    return [distinct[counts > turn] for turn in range(counts.max() - 1, -1, -1)]


def _keep_copies_apart(rows: np.ndarray, window: np.ndarray, ends: Sequence[int]) -> None:
    """Reorder `rows` [n] within windows, so that no batch holds two copies where it can be helped.

    A batch that begins in one pass and ends within a window of the next one takes from that window
    the first rows that it does not hold yet.
    """
    starts = np.flatnonzero(np.diff(window, prepend=-1))
    for begin, end in zip((0, *ends), ends, strict=False):
        start, stop = _around(starts, end, len(rows))
        if not begin < start < end < stop:
            continue
        part = rows[start:stop]
        free_first = np.argsort(np.isin(part, rows[begin:start]), kind="stable")
        taken = np.zeros(len(part), dtype=bool)
        taken[free_first[: end - start]] = True
        rows[start:stop] = np.concatenate([part[taken], part[~taken]])


def _around(starts: np.ndarray, place: int, count: int) -> tuple[int, int]:
    """Return the begin and the end of the window that holds the sample before `place`."""
    index = int(np.searchsorted(starts, place, side="left")) - 1
    return int(starts[index]), int(starts[index + 1]) if index + 1 < len(starts) else count
