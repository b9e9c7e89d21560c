"""Grids of small axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lotus_ray.report.figures.sheet import EM, GAP, WIDTH, cut, place, sheet

_ACROSS = 2
_PLOT, _HEAD, _LEFT = 62.0, 18.0, 44.0


def panels(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure with small axes for each name, two in a line, and their titles."""
    down = math.ceil(len(names) / _ACROSS)
    pitch = _HEAD + _PLOT + 20
    figure = sheet(down * pitch + GAP - 12)
    width = WIDTH / _ACROSS
    found = []
    for number, name in enumerate(names):
        left, top = width * (number % _ACROSS), pitch * (number // _ACROSS)
        axes = place(figure, left + _LEFT, top + _HEAD, width - _LEFT - 10, _PLOT)
        axes.set_title(cut(name, int((width - 12) / EM)), loc="left", x=-0.25)
        axes.grid()
        found.append(axes)
    return figure, found
