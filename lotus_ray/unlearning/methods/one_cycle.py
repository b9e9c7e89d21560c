"""Learning rates as functions of the share of a run that is done, so that it can restart."""

from __future__ import annotations

from itertools import pairwise

# Share of all steps, and of the highest learning rate at that point; linear in between.
ONE_CYCLE = ((0.0, 1 / 25), (0.3, 1.0), (0.85, 1 / 25), (1.0, 1 / 25e4))


def one_cycle(share: float) -> float:
    """Return the learning rate, as a part of the highest, after a share of all steps."""
    for (start, low), (end, high) in pairwise(ONE_CYCLE):
        if share <= end:
            return low + (high - low) * (share - start) / (end - start)
    return ONE_CYCLE[-1][1]
