"""The colour and marker of each method: the same in every figure of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lotus_ray.report.collect import METHOD_ORDER
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.figures.sheet import EM, INK, TEXT, WIDTH, add_axes, columns, cut

# Contrast is at least 3:1 on white and on the dark page. Colour-blind people can tell neighbours.
COLOURS = (
    "#1a86d0",  # blue
    "#a86f00",  # ochre
    "#00916a",  # green
    "#bd52a5",  # purple
    "#6e7ff0",  # indigo
    "#5d8a00",  # olive
    "#0095a8",  # teal
    "#a0705a",  # brown
    "#e5484d",  # red: the ninth published method, LoTUS
    "#8f78b8",  # lavender
)
GREY = "#7c828a"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "h", ">", "p")  # 10 × 11: 110 methods
_GOLD = "*"
_LINE = TEXT + 4


@dataclass(frozen=True)
class Look:
    """Colour and marker of a method."""

    colour: str
    marker: str

    @property
    def size(self) -> float:
        """Area of the marker. A star needs more area to look as large."""
        return 130.0 if self.marker == _GOLD else 52.0


def looks(group: Group) -> dict[str, Look]:
    """Return a look by method. Published methods look the same in all tables."""
    result: dict[str, Look] = {}
    free = len(METHOD_ORDER)
    for entry in group.entries:
        if entry.name == "original":
            result[entry.method] = Look(GREY, "o")
        elif entry.name == "gold":
            result[entry.method] = Look(INK if entry.is_gold else GREY, _GOLD)
        elif entry.method in METHOD_ORDER:
            result[entry.method] = _look(METHOD_ORDER.index(entry.method) - 2)
        else:
            result[entry.method] = _look(free)
            free += 1
    return result


def key_height(entries: Sequence[Entry]) -> float:
    """Return the height of the key of these methods below a figure, in points."""
    return math.ceil(len(entries) / _key_columns(entries)) * _LINE + 6


def put_key(figure: Figure, entries: Sequence[Entry], group: Group, top: float) -> None:
    """Draw the key of methods and markers.

    Args:
        figure: the figure.
        entries: methods in the key.
        group: the table.
        top: distance from the figure's upper edge, in points.
    """
    across = _key_columns(entries)
    down = math.ceil(len(entries) / across)
    axes = add_axes(figure, 0, top, WIDTH, down * _LINE)
    axes.set(xlim=(0, WIDTH), ylim=(down * _LINE, 0))
    axes.axis("off")
    shown = looks(group)
    for number, entry in enumerate(entries):
        left = 8 + WIDTH / across * (number // down)
        middle = _LINE * (number % down + 0.5)
        look = shown[entry.method]
        axes.scatter([left], [middle], s=look.size, c=look.colour, marker=look.marker)
        name = cut(entry.method, int((WIDTH / across - 20) / EM))
        axes.text(left + 10, middle, name, va="center_baseline")


def _look(number: int) -> Look:
    return Look(COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)])


def _key_columns(entries: Sequence[Entry]) -> int:
    widest = max((columns(entry.method) for entry in entries), default=0)
    fits = [n for n in (3, 2) if widest * EM < WIDTH / n - 20]
    return fits[0] if fits else 1
