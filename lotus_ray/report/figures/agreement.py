"""Compare RF-JSD, which needs no gold standard, with JSD, which needs one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.looks import key_height, looks, put_key
from lotus_ray.report.figures.sheet import GAP, WIDTH, Drawing, add_axes, scale, sheet
from lotus_ray.store.results import Store

_BOTH = ("rf_jsd", "jsd")
TITLE = "RF-JSD beside JSD"
_LEAST = 3  # methods: two are always on a line
_MANY_TIMES = 5.0  # a low limit for a logarithmic scale separates good methods, close to 0
_HEIGHT, _LEFT, _TOP = 210.0, 58.0, 10.0


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
    for entry, x, y in zip(entries, xs, ys, strict=True):
        look = shown[entry.method]
        axes.scatter([x], [y], s=1.6 * look.size, c=look.colour, marker=look.marker, alpha=0.9)
    scale(axes, "x", xs, many=_MANY_TIMES)
    scale(axes, "y", ys, many=_MANY_TIMES)
    axes.margins(0.08)
    axes.set(xlabel="RF-JSD", ylabel="JSD")
    axes.grid()
    put_key(figure, entries, group, _TOP + _HEIGHT + GAP + 16)
    return Drawing(TITLE, _caption(xs, ys), figure)


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


def _caption(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Say what is drawn, and the correlations, or why there are none."""
    what = "Means over seeds of the unlearning methods, without original and gold. "
    result = agreement(xs, ys)
    if result is not None:
        return what + (
            f"Pearson’s r = {result.pearson:.3f}, Spearman’s ρ = {result.spearman:.3f} "
            f"over {len(xs)} methods; r is of the values, not of their logarithms."
        )
    if len(xs) < _LEAST:
        return what + f"No correlation: it needs {_LEAST} methods, and {len(xs)} have both values."
    return what + "No correlation: all values of one metric are equal."
