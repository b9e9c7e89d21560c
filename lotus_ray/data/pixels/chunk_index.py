"""Which chunk each image is in: twelve bytes an image, where a dictionary of ids takes 150."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


class ChunkIndex:
    """Finds chunks by sample id. It keeps hashes of ids, which only this process understands.

    Of 1.28 million ids two have the same hash with a chance of 1 to 20 million. Then one of them is
    looked for in the other's chunk, is not found there, and is decoded by the node that wants it.
    """

    def __init__(self) -> None:
        self._hashes = np.empty(0, np.int64)  # [n], rising
        self._chunks = np.empty(0, np.int32)  # [n]: number of the chunk
        self._numbers: dict[str, int] = {}  # by name

    def add(self, chunks: Iterable[tuple[Sequence[str], str]]) -> None:
        """Add chunks: sample ids and name of each. An image is in the last of its chunks."""
        hashes, numbers = [self._hashes], [self._chunks]
        for sample_ids, name in chunks:
            number = self._numbers.setdefault(name, len(self._numbers))
            hashes.append(_hashes(sample_ids))
            numbers.append(np.full(len(sample_ids), number, np.int32))
        if len(hashes) > 1:
            # The first of equal ones is kept.
            self._hashes, first = np.unique(np.concatenate(hashes[::-1]), return_index=True)
            self._chunks = np.concatenate(numbers[::-1])[first]

    def drop(self, name: str) -> None:
        """Drop a chunk: its images are in none."""
        stays = self._chunks != self._numbers[name]
        self._hashes, self._chunks = self._hashes[stays], self._chunks[stays]

    def holds(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Return which images are in a chunk, bool [n]."""
        return self._find(sample_ids) >= 0

    def chunks_of(self, sample_ids: Sequence[str]) -> set[str] | None:
        """Return the names of the chunks with some images; None if one is in none."""
        numbers = np.unique(self._find(sample_ids))
        if len(numbers) and numbers[0] < 0:
            return None
        names = list(self._numbers)
        return {names[number] for number in numbers}

    def _find(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Return the number of the chunk of each image, −1 if it is in none."""
        wanted = _hashes(sample_ids)
        if not len(self._hashes):
            return np.full(len(wanted), -1)
        at = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        return np.where(self._hashes[at] == wanted, self._chunks[at], -1)


def _hashes(sample_ids: Sequence[str]) -> np.ndarray:
    return np.fromiter(map(hash, sample_ids), np.int64, len(sample_ids))
