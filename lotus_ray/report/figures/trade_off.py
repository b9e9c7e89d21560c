"""Accuracy on the forget set against accuracy on the retain set. The gold standard is the aim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes

from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.fan import fan_out
from lotus_ray.report.figures.looks import Look, key_height, looks, put_key
from lotus_ray.report.figures.sheet import (
    GAP,
    WIDTH,
    Drawing,
    add_axes,
    mark_gold,
    scale,
    sheet,
)
from lotus_ray.store.results import Store

TITLE = "Forgetting against retention"
X, Y = "retain_acc", "forget_acc"
_HEIGHT, _LEFT, _TOP = 300.0, 74.0, 14.0
_NEAR = 0.02  # of accuracy


def draw(group: Group, store: Store) -> Drawing:
    """Draw a small dot for each seed and a large marker for the mean of each method."""
    entries = [entry for entry in group.entries if _points(entry)]
    if not entries:
        return Drawing(TITLE, "No cell has an accuracy on the forget set and on the retain set.")
    figure = sheet(_TOP + _HEIGHT + GAP + 20 + key_height(entries))
    axes = add_axes(figure, _LEFT, _TOP, WIDTH - _LEFT - 14, _HEIGHT)
    shown = looks(group)
    for entry in entries:
        _put_seeds(axes, entry, shown[entry.method])
    scale(axes, "x", ())
    scale(axes, "y", ())
    axes.margins(0.06)
    fan_out(axes, [(*_mean(entry), shown[entry.method]) for entry in entries])
    axes.set(xlabel="accuracy on the retain set", ylabel="accuracy on the forget set")
    axes.grid()
    put_key(figure, entries, group, _TOP + _HEIGHT + GAP + 16)
    caption = (
        "A small dot per seed, a large marker for their mean; marks that coincide are fanned out."
    )
    if group.gold in entries:
        caption += " Dotted lines cross at the gold standard: nearer to it is better."
    return Drawing(TITLE, caption, figure, _seen(group, entries))


def _put_seeds(axes: Axes, entry: Entry, look: Look) -> None:
    """Draw the seeds of one method; lines cross at the mean of the gold standard."""
    points = _points(entry)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    axes.scatter(xs, ys, s=18, c=look.colour, alpha=0.6, linewidths=0, label=entry.method)
    if entry.is_gold:
        x, y = _mean(entry)
        mark_gold(axes, x)
        mark_gold(axes, y, across=False)


def _mean(entry: Entry) -> tuple[float, float]:
    points = _points(entry)
    return fmean(x for x, _ in points), fmean(y for _, y in points)


def _seen(group: Group, entries: Sequence[Entry]) -> str:
    """Say which method is nearest to gold and which farthest; without gold, the ends."""
    rivals = [entry for entry in entries if entry.is_rival]
    if not rivals:
        return ""
    text = "{} answers {:.3f} of the forget set and {:.3f} of the retain set right"
    if group.gold not in entries or group.gold is None:
        least = min(rivals, key=lambda entry: _mean(entry)[1])
        x, y = _mean(least)
        return f"{text.format(least.method, y, x)}: the least of the forget set."
    gold = _mean(group.gold)
    farthest = max(rivals, key=lambda entry: math.dist(_mean(entry), gold))
    near = sum(math.dist(_mean(entry), gold) < _NEAR for entry in rivals)
    (x, y), (gold_x, gold_y) = _mean(farthest), gold
    return (
        f"{near} of {len(rivals)} methods lie within {_NEAR} of the gold standard "
        f"({gold_y:.3f} of the forget set, {gold_x:.3f} of the retain set). "
        f"{text.format(farthest.method, y, x)}: the farthest from gold."
    )


def _points(entry: Entry) -> list[tuple[float, float]]:
    xs, ys = entry.values.get(X, {}), entry.values.get(Y, {})
    return [(x, ys[seed]) for seed, x in xs.items() if seed in ys]
