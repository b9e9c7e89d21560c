"""The temperature τ_d of LoTUS, and the accuracies that it is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lotus_ray.report.entries import Entry, Group
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
from lotus_ray.store.row import Row

TITLE = "LoTUS by epoch"
_HEIGHT, _LEFT, _TOP, _BETWEEN = 140.0, 74.0, 10.0, 26.0


def draw(group: Group, store: Store) -> Drawing:
    """Draw τ_d above, accuracy on the forget and unseen set below, one line per seed."""
    entries = [e for e in group.entries if any(noted(row, "tau") for row in e.rows.values())]
    if not entries:
        return Drawing(TITLE, "No cell has a temperature: LoTUS is not in this table.")
    below = _TOP + _HEIGHT + _BETWEEN
    with_key = entries if len(entries) > 1 else []
    figure = sheet(below + _HEIGHT + GAP + 16 + (key_height(with_key) if with_key else 0))
    upper = add_axes(figure, _LEFT, _TOP, WIDTH - _LEFT - 14, _HEIGHT)
    lower = add_axes(figure, _LEFT, below, WIDTH - _LEFT - 14, _HEIGHT)
    shown = looks(group)
    for entry in entries:
        _put(upper, lower, entry, shown[entry.method])
    for axes, name in ((upper, "temperature τ"), (lower, "accuracy")):
        scale(axes, "y", (), ticks=4)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_ylabel(name)
        axes.grid()
    mark_gold(lower, group.gold.mean("forget_acc") if group.gold else None, across=False)
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("epoch")
    if with_key:
        put_key(figure, with_key, group, below + _HEIGHT + GAP + 12)
    return Drawing(
        TITLE,
        "Values before each epoch, one line per seed. Below, solid: the student’s accuracy on the "
        "forget set; dashed: the original’s on unseen images, where LoTUS stops; dotted: the gold "
        "standard’s on the forget set.",
        figure,
        _seen(entries),
    )


def _seen(entries: Sequence[Entry]) -> str:
    """Say from where to where temperature and accuracy go, over all seeds."""
    said = []
    for entry in entries:
        ends = []
        for note in ("tau", "forget_accuracy"):
            runs = [
                list(values.values()) for row in entry.rows.values() if (values := noted(row, note))
            ]
            ends += (
                [f"{fmean(run[at] for run in runs):.3f}" for at in (0, -1)] if runs else ["-", "-"]
            )
        said.append(
            f"{entry.method}: temperature {ends[0]} to {ends[1]}, accuracy on the forget set "
            f"{ends[2]} to {ends[3]}"
        )
    return f"{'; '.join(said[:3])}."


def noted(row: Row, note: str) -> dict[int, float]:
    """Return one note of a cell's phases, such as "tau", by epoch counted from 1."""
    return {
        epoch: phase[note]
        for epoch, phase in enumerate(row.phases, start=1)
        if phase.get(note) is not None
    }


def _put(upper: Axes, lower: Axes, entry: Entry, look: Look) -> None:
    """Draw temperature and accuracies of one method, one line per seed."""
    for _, row in sorted(entry.rows.items()):
        for axes, note, stroke in (
            (upper, "tau", "-"),
            (lower, "forget_accuracy", "-"),
            (lower, "unseen_accuracy", "--"),
        ):
            result = noted(row, note)
            axes.plot(
                list(result),
                list(result.values()),
                color=look.colour,
                linestyle=stroke,
                linewidth=1.3,
                marker=look.marker if stroke == "-" else "",
                markersize=3.5,
                alpha=0.9,
                label=note,
            )
