"""Accuracy on the forget set against accuracy on the retain set. The gold standard is the aim."""

from __future__ import annotations

from matplotlib.axes import Axes

from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.looks import Look, key_height, looks, put_key
from lotus_ray.report.figures.sheet import GAP, INK, WIDTH, Drawing, add_axes, scale, sheet
from lotus_ray.store.results import Store

TITLE = "Forgetting against retention"
X, Y = "retain_acc", "forget_acc"
_HEIGHT, _LEFT, _TOP = 210.0, 58.0, 10.0


def draw(group: Group, store: Store) -> Drawing:
    """Draw a small dot for each seed and a large marker for the mean of each method."""
    entries = [entry for entry in group.entries if _points(entry)]
    if not entries:
        return Drawing(TITLE, "No cell has an accuracy on the forget set and on the retain set.")
    figure = sheet(_TOP + _HEIGHT + GAP + 20 + key_height(entries))
    axes = add_axes(figure, _LEFT, _TOP, WIDTH - _LEFT - 14, _HEIGHT)
    shown = looks(group)
    for entry in entries:
        _put(axes, entry, shown[entry.method])
    scale(axes, "x", ())
    scale(axes, "y", ())
    axes.margins(0.06)
    axes.set(xlabel="accuracy on the retain set", ylabel="accuracy on the forget set")
    axes.grid()
    put_key(figure, entries, group, _TOP + _HEIGHT + GAP + 16)
    caption = "A small dot per seed, a large marker for their mean."
    if group.gold in entries:
        caption += " Dotted lines cross at the gold standard: nearer to it is better."
    return Drawing(TITLE, caption, figure)


def _put(axes: Axes, entry: Entry, look: Look) -> None:
    """Draw the seeds and the mean of one method; lines cross at the gold standard."""
    points = _points(entry)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    axes.scatter(xs, ys, s=14, c=look.colour, alpha=0.6, linewidths=0, label=entry.method)
    mean = sum(xs) / len(xs), sum(ys) / len(ys)
    above = 4 if entry.is_gold else 3
    axes.scatter(
        [mean[0]],
        [mean[1]],
        s=1.6 * look.size,
        c=look.colour,
        marker=look.marker,
        alpha=0.9,
        zorder=above,
    )
    if entry.is_gold:
        axes.axvline(mean[0], color=INK, linestyle=":", linewidth=1)
        axes.axhline(mean[1], color=INK, linestyle=":", linewidth=1)


def _points(entry: Entry) -> list[tuple[float, float]]:
    xs, ys = entry.values.get(X, {}), entry.values.get(Y, {})
    return [(x, ys[seed]) for seed, x in xs.items() if seed in ys]
