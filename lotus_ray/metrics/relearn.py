"""The relearn curve: accuracy by step while a copy of a model learns from images to keep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

# Rises when the procedure or a figure changes, so that old curves are not taken for new ones.
VERSION = 1


def points(steps: int, every: int) -> list[int]:
    """Return after how many steps a curve is measured: at 0, every so many, and at the end."""
    return [*range(0, steps, every), steps]


def mean_over_steps(steps: Sequence[int], values: Sequence[float]) -> float:
    """Compute the mean of a curve over its steps: (1/T)·∫ a(t) dt, linear between the points.

    Args:
        steps: rising, at least two.
        values: the curve at each.

    Source: trapezoidal rule. Deviation: none.
    """
    pairs = zip(pairwise(steps), pairwise(values), strict=True)
    area = sum((end - begin) * (first + last) / 2 for (begin, end), (first, last) in pairs)
    return area / (steps[-1] - steps[0])
