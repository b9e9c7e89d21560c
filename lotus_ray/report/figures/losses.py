"""The loss of each phase of training, for every method."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.looks import Look, looks
from lotus_ray.report.figures.panels import panels
from lotus_ray.report.figures.sheet import Drawing, scale
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

TITLE = "Loss of each phase"
_STROKES = ("-", (0, (4, 1.5)), ":")  # the longest phases are solid
Curve = list[tuple[int, float]]  # phases, counted from 1, and their mean loss


def draw(group: Group, store: Store) -> Drawing:
    """Draw small axes for each method that trains, each with its own scale."""
    entries = [e for e in group.entries if any(curves(row) for row in e.rows.values())]
    if not entries:
        return Drawing(TITLE, "No cell has trained in phases.")
    figure, axes = panels([entry.method for entry in entries])
    shown = looks(group)
    for one, entry in zip(axes, entries, strict=True):
        _put(one, entry, shown[entry.method])
    return Drawing(
        TITLE,
        "Mean loss over the steps of a phase, by number of the phase; one line per seed. Scales "
        "differ, because losses do. Phases with different numbers of steps have separate lines, "
        "such as forget and retain epochs that alternate; the longest phases are solid.",
        figure,
        _seen(entries),
    )


def _seen(entries: Sequence[Entry]) -> str:
    """Say in how many methods the loss of the longest phases fell."""
    fell = [
        entry.method
        for entry in entries
        if all(
            curve[-1][1] < curve[0][1]
            for row in entry.rows.values()
            for curve in [*curves(row).values()][:1]
        )
    ]
    count = f"{len(fell)} of {len(entries)}"
    return f"The loss of the longest phases ended lower than it began for {count} methods."


def curves(row: Row) -> dict[int, Curve]:
    """Return the losses of a cell's phases, by number of steps, the largest first."""
    result: dict[int, Curve] = {}
    for number, phase in enumerate(row.phases, start=1):
        if phase.get("loss") is not None:
            result.setdefault(phase.get("steps", 0), []).append((number, phase["loss"]))
    return dict(sorted(result.items(), reverse=True))


def _put(axes: Axes, entry: Entry, look: Look) -> None:
    """Draw the losses of one method, one line per seed and kind of phase."""
    for _, row in sorted(entry.rows.items()):
        for kind, curve in enumerate(curves(row).values()):
            axes.plot(
                [number for number, _ in curve],
                [loss for _, loss in curve],
                color=look.colour,
                linewidth=1.2,
                linestyle=_STROKES[min(kind, len(_STROKES) - 1)],
                marker="o" if len(curve) == 1 else "",
                markersize=3,
                alpha=0.9,
            )
    scale(axes, "y", (), ticks=3)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
