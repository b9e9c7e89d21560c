"""In which order an epoch meets its samples: shuffled exactly, or within windows of what is stored.

Both orders are drawn from (seed, names) and the sample ids alone.
"""

from __future__ import annotations

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
    """

    keys: Tensor  # int64 [N], from seeds.sample_keys
    seed: int
    stored: np.ndarray | None = None  # int64 [N]: place of each sample in the order of storage
    window: int | None = None  # samples

    def drawn(self, rows: np.ndarray, *names: object) -> np.ndarray:
        """Return `rows` [n] in a uniformly random order, whatever the window."""
        return rows[np.argsort(self._scores(rows, *names), kind="stable")]

    def fixed(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `rows` in an order that is always the same, and the window of each sample [N]."""
        if self.window is None:
            return rows, None
        stored = self._as_stored(rows)
        return stored, self._window_of(stored)

    def epoch(self, rows: np.ndarray, *names: object) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `rows` in the order of an epoch, and the window of each sample [N], if any."""
        if self.window is None:
            return self.drawn(rows, "shuffle", *names), None
        stored = self._as_stored(rows)
        block = np.arange(len(stored)) // max(self.window // BLOCKS_A_WINDOW, 1)
        first = stored[np.flatnonzero(np.diff(block, prepend=-1))]
        turn = np.argsort(np.argsort(self._scores(first, "blocks", *names), kind="stable"))
        rows = stored[np.argsort(turn[block], kind="stable")]
        window = np.arange(len(rows)) // self.window
        rows = rows[np.lexsort((self._scores(rows, "shuffle", *names), window))]
        return rows, self._window_of(rows)

    def _scores(self, rows: np.ndarray, *names: object) -> np.ndarray:
        result: np.ndarray = seeds.scores(
            self.keys[torch.from_numpy(rows)], self.seed, *names
        ).numpy()
        return result

    def _as_stored(self, rows: np.ndarray) -> np.ndarray:
        assert self.stored is not None
        return rows[np.argsort(self.stored[rows], kind="stable")]

    def _window_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the window of each sample [N], as `rows` come; −1 of those that do not."""
        assert self.window is not None
        window_of = np.full(len(self.keys), -1)
        window_of[rows] = np.arange(len(rows)) // self.window
        return window_of
