"""How near to the gold standard each value of a table is, as one of five tints."""

from __future__ import annotations

import math

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.resolution import FEW, resolution

LEVELS = 4  # 4: as near as can be told; 0: as far as the farthest method, no tint
_AIMED = (
    "rf_jsd",
)  # where less is said to be better, and the gold standard is the aim all the same
_GAPS = ("jsd", "avg_gap")  # already distances from the gold standard


def tints(group: Group, metric: str) -> dict[str, int]:
    """Return the tint of each method in a column, by its name in the table; none without gold.

    A distance within chance has the deepest tint. Beyond it, the square root of the distance is
    shown in equal steps, up to that of the farthest method.

    Args:
        group: the table.
        metric: a key of METRICS.
    """
    gaps = {
        entry.method: gap
        for entry in group.entries
        if (gap := gap_to_gold(entry, group, metric)) is not None
    }
    chance, farthest = _chance(group, metric), max(gaps.values(), default=0.0)
    if not math.isfinite(farthest):
        return {}
    return {
        method: LEVELS if gap <= chance else round((LEVELS - 1) * (1 - math.sqrt(gap / farthest)))
        for method, gap in gaps.items()
    }


def _chance(group: Group, metric: str) -> float:
    """Return a distance that is no more than chance: of few images, or of gold's own interval."""
    one = resolution(group, metric)
    if one is not None:
        return (FEW - 1) * one / max(len(group.seeds), 1) * (1 + 1e-9)
    known = group.gold.intervals.get(metric, {}) if group.gold else {}
    return max(((high - low) / 2 for low, high in known.values()), default=0.0)


def gap_to_gold(entry: Entry, group: Group, metric: str) -> float | None:
    """Return how far the mean of a line is from the gold standard's; None if that says nothing."""
    gold, value = group.gold, entry.mean(metric)
    if gold is None or value is None:
        return None
    if metric in _GAPS:
        return value
    aim = gold.mean(metric)
    is_aimed = (
        METRICS[metric].better == "near gold" or metric in _AIMED or metric.startswith("mia_")
    )
    return abs(value - aim) if is_aimed and aim is not None else None
