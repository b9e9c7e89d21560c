"""How LoTUS chooses its temperature: τ_d, and the accuracies that it follows from."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.looks import Look, key_height, looks, put_key
from lotus_ray.report.figures.sheet import GAP, WIDTH, Drawing, place, scale, sheet
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

TITLE = "LoTUS by epoch"
_HEIGHT, _LEFT, _TOP, _BETWEEN = 100.0, 58.0, 10.0, 22.0


def draw(group: Group, store: Store) -> Drawing:
    """Draw τ_d above, forget-set and unseen-set accuracy below, a line for each seed."""
    known = [e for e in group.entries if any(noted(row, "tau") for row in e.rows.values())]
    if not known:
        return Drawing(TITLE, "No cell notes a temperature: LoTUS is not in this table.")
    below = _TOP + _HEIGHT + _BETWEEN
    with_key = known if len(known) > 1 else []
    figure = sheet(below + _HEIGHT + GAP + 16 + (key_height(with_key) if with_key else 0))
    upper = place(figure, _LEFT, _TOP, WIDTH - _LEFT - 14, _HEIGHT)
    lower = place(figure, _LEFT, below, WIDTH - _LEFT - 14, _HEIGHT)
    shown = looks(group)
    for entry in known:
        _put(upper, lower, entry, shown[entry.method])
    for axes, name in ((upper, "temperature τ"), (lower, "accuracy")):
        scale(axes, "y", (), ticks=4)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_ylabel(name)
        axes.grid()
    upper.tick_params(labelbottom=False)
    lower.set_xlabel("epoch")
    if with_key:
        put_key(figure, with_key, group, below + _HEIGHT + GAP + 12)
    return Drawing(
        TITLE,
        "Before each epoch, a line a seed. Below, solid: the student’s accuracy on the forget set; "
        "dashed: the original’s on unseen images, where LoTUS stops.",
        figure,
    )


def noted(row: Row, note: str) -> dict[int, float]:
    """Return what the phases of a cell note, by epoch counted from 1."""
    return {
        epoch: phase[note]
        for epoch, phase in enumerate(row.phases, start=1)
        if phase.get(note) is not None
    }


def _put(upper: Axes, lower: Axes, entry: Entry, look: Look) -> None:
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
