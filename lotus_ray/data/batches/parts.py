"""Parts of a set in which each class has its share. Samples come in random order, with labels."""

from __future__ import annotations

import numpy as np

_DIGITS = 9  # of a remainder: what differs beyond them is rounding, and a tie


def stratified(rows: np.ndarray, labels: np.ndarray, fraction: float) -> np.ndarray:
    """Take round(fraction · n) of n samples, and at least one, with the same part of each class.

    A class of n_c samples gives ⌊fraction · n_c⌋ or one more. The ones more go to the classes with
    the largest remainders, of equal ones to the class that comes first in `rows`.

    Args:
        rows: int64 [n], in random order.
        labels: of each, int64 [n].
        fraction: in [0, 1]; 0 takes none.

    Returns:
        int64: the first of `rows` of each class.

    Source: largest remainders (Hamilton 1792). Deviation: none.
    """
    if not len(rows) or not fraction:
        return rows[:0]
    total = max(round(fraction * len(rows)), 1)
    classes, first, counts = np.unique(labels, return_index=True, return_counts=True)
    whole = np.floor(np.round(fraction * counts, _DIGITS)).astype(np.int64)
    remainders = np.round(fraction * counts - whole, _DIGITS)
    whole[np.lexsort((first, -remainders))[: total - whole.sum()]] += 1
    return first_of_each(rows, labels, whole[np.searchsorted(classes, labels)])


def first_of_each(rows: np.ndarray, labels: np.ndarray, count: int | np.ndarray) -> np.ndarray:
    """Return the first `count` samples of each class: one number, or one for each sample [n]."""
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    place = np.empty(len(rows), dtype=np.int64)  # of each sample among those of its class
    place[order] = np.arange(len(rows)) - np.searchsorted(grouped, grouped)
    taken: np.ndarray = rows[place < count]
    return taken
