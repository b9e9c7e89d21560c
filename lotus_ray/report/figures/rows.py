"""Figures with one row per method: its name, a dot for each seed, and their mean as a line."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.looks import looks
from lotus_ray.report.figures.sheet import EM, INK, TEXT, add_axes, columns, lines_of

_LETTERS = 22  # per line of a name
_JITTER = 0.13  # of a row, between the dots of two seeds: equal values stay visible


@dataclass(frozen=True)
class Rows:
    """Layout of the rows of a figure, in points."""

    names: tuple[str, ...]
    left: float  # width of the names
    pitch: float  # from one row to the next

    @property
    def height(self) -> float:
        """Height of all rows."""
        return self.pitch * len(self.names)


def rows_of(group: Group, least: float = 25.0) -> Rows:
    """Return the layout for the methods of a table, in its order.

    Args:
        group: the table.
        least: lowest height of a row, in points.
    """
    parted = [lines_of(entry.method, _LETTERS) for entry in group.entries]
    widest = max((columns(line) for lines in parted for line in lines), default=0)
    most = max((len(lines) for lines in parted), default=1)
    pitch = max(least, most * (TEXT + 1.5) + 5)
    return Rows(tuple("\n".join(lines) for lines in parted), widest * EM + 8, pitch)


def put_rows(figure: Figure, rows: Rows, left: float, width: float, top: float) -> Axes:
    """Add axes with one row per method. Only the first axes of a figure have names.

    Args:
        figure: the figure.
        rows: the layout.
        left: distance from the figure's left edge, in points.
        width: in points.
        top: distance from the figure's upper edge, in points.
    """
    axes = add_axes(figure, left, top, width, rows.height)
    axes.set_ylim(len(rows.names) - 0.5, -0.5)
    axes.set_yticks(range(len(rows.names)), rows.names if left <= rows.left else [])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="both")
    return axes


def put_dots(axes: Axes, group: Group, metric: str) -> list[float]:
    """Draw each seed's value as a dot and the mean as a line; return the values.

    Args:
        axes: from `put_rows`.
        group: the table.
        metric: a key of METRICS.
    """
    shown = looks(group)
    drawn: list[float] = []
    for row, entry in enumerate(group.entries):
        values = entry.values.get(metric, {})
        mean = entry.mean(metric)
        if mean is None:
            say(axes, row, why_none(entry))
            continue
        look = shown[entry.method]
        middle = (len(values) - 1) / 2
        heights = [row + _JITTER * (index - middle) for index in range(len(values))]
        if len(values) > 1:
            axes.plot([mean, mean], [row - 0.36, row + 0.36], color=INK, linewidth=1.6)
        axes.scatter(
            list(values.values()),
            heights,
            s=look.size,
            c=look.colour,
            marker=look.marker,
            alpha=0.9,
            linewidths=0,
            label=entry.method,
            zorder=3,
        )
        drawn.extend(values.values())
    return drawn


def say(axes: Axes, row: int, why: str) -> None:
    """Write in a row why nothing is drawn there."""
    across = axes.get_yaxis_transform()
    axes.text(0.01, row, why, transform=across, va="center_baseline", fontstyle="italic", alpha=0.7)


def why_none(entry: Entry) -> str:
    """Return why a method has no value: "failed" or "no value"."""
    return "failed" if len(entry.failures) == len(entry.rows) else "no value"
