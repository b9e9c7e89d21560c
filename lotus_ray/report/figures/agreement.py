"""Compare RF-JSD, which needs no gold standard, with JSD, which needs one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.fan import fan_out
from lotus_ray.report.figures.looks import key_height, looks, put_key
from lotus_ray.report.figures.sheet import (
    GAP,
    WIDTH,
    Drawing,
    add_axes,
    mark_gold,
    scale,
    sheet,
    spans_much,
)
from lotus_ray.report.resolution import idle
from lotus_ray.store.results import Store

_BOTH = ("rf_jsd", "jsd")
TITLE = "RF-JSD beside JSD"
_LEAST = 3  # methods: two are always on a line
_HEIGHT, _LEFT, _TOP = 300.0, 74.0, 24.0


@dataclass(frozen=True)
class Agreement:
    """How two metrics agree over methods: as numbers, and as ranks."""

    pearson: float
    spearman: float


def draw(group: Group, store: Store) -> Drawing:
    """Draw a marker for each unlearning method at its means over seeds."""
    entries = [entry for entry in group.rivals if _seeds(entry)]
    if not entries:
        return Drawing(TITLE, "No unlearning method has both: JSD needs a gold standard.")
    xs, ys = ([_mean(entry, metric) for entry in entries] for metric in _BOTH)
    figure = sheet(_TOP + _HEIGHT + GAP + 20 + key_height(entries))
    axes = add_axes(figure, _LEFT, _TOP, WIDTH - _LEFT - 14, _HEIGHT)
    shown = looks(group)
    log = divergences_span(group)
    golds = [value] if group.gold and (value := group.gold.mean("rf_jsd")) is not None else []
    scale(axes, "x", [*xs, *golds], log=log)
    scale(axes, "y", ys, log=log)
    mark_gold(axes, golds[0] if golds else None, named=True)
    fan_out(
        axes, [(x, y, shown[entry.method]) for entry, x, y in zip(entries, xs, ys, strict=True)]
    )
    axes.set(xlabel="RF-JSD", ylabel="JSD")
    axes.grid()
    put_key(figure, entries, group, _TOP + _HEIGHT + GAP + 16)
    return Drawing(TITLE, _caption(xs, ys), figure, _seen(group, entries))


def divergences_span(group: Group) -> bool:
    """Return True if the figures of divergences of a table need logarithmic scales."""
    values = [
        [value for entry in entries for value in entry.values.get(metric, {}).values()]
        for metric, entries in (("rf_jsd", group.entries), ("jsd", group.rivals))
    ]
    return spans_much(*values)


def agreement(xs: Sequence[float], ys: Sequence[float]) -> Agreement | None:
    """Return how two metrics of the same methods agree; None if that is undefined.

    Args:
        xs: one metric, by method.
        ys: the other metric, in the same order.

    Source: Pearson 1895, Spearman 1904, as scipy computes them. Deviation: none.
    """
    if len(xs) < _LEAST or len(set(xs)) < 2 or len(set(ys)) < 2:
        return None
    from scipy.stats import pearsonr, spearmanr

    return Agreement(float(pearsonr(xs, ys).statistic), float(spearmanr(xs, ys).statistic))


def _seeds(entry: Entry) -> set[int]:
    """Return the seeds that have both metrics."""
    return set.intersection(*(set(entry.values.get(metric, {})) for metric in _BOTH))


def _mean(entry: Entry, metric: str) -> float:
    return fmean(entry.values[metric][seed] for seed in _seeds(entry))


def _seen(group: Group, entries: Sequence[Entry]) -> str:
    """Say which method that changed something has the least of each."""
    moving = [entry for entry in entries if entry.method not in idle(group)]
    if not moving:
        return "No method changed anything that can be measured."
    least = [min(moving, key=lambda entry: _mean(entry, metric)).method for metric in _BOTH]
    if least[0] == least[1]:
        return f"{least[0]} has the least RF-JSD and the least JSD."
    return f"{least[0]} has the least RF-JSD, {least[1]} the least JSD."


def _caption(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Say what is drawn, and the correlations, or why there are none."""
    what = (
        "Means over seeds of the unlearning methods; marks that coincide are fanned out. Dotted: "
        "RF-JSD of the gold standard, whose JSD is 0. "
    )
    result = agreement(xs, ys)
    if result is not None:
        return what + (
            f"Pearson’s r = {result.pearson:.3f}, Spearman’s ρ = {result.spearman:.3f} "
            f"over {len(xs)} methods; r is of the values, not of their logarithms."
        )
    if len(xs) < _LEAST:
        return what + f"No correlation: it needs {_LEAST} methods, and {len(xs)} have both values."
    return what + "No correlation: all values of one metric are equal."
