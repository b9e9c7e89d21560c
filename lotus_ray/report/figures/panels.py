"""Grids of small axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lotus_ray.report.figures.sheet import EM, GAP, TEXT, WIDTH, add_axes, lines_of, sheet

_ACROSS = 2
_PLOT, _HEAD, _LEFT = 76.0, 22.0, 58.0


def panels(names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure with small axes for each name, two per line, with titles."""
    down = math.ceil(len(names) / _ACROSS)
    width = WIDTH / _ACROSS
    titles = [lines_of(name, int((width - 12) / EM), most=2) for name in names]
    head = _HEAD + (TEXT + 2 if any(len(lines) > 1 for lines in titles) else 0)
    pitch = head + _PLOT + 26
    figure = sheet(down * pitch + GAP - 12)
    result = []
    for number, lines in enumerate(titles):
        left, top = width * (number % _ACROSS), pitch * (number // _ACROSS)
        axes = add_axes(figure, left + _LEFT, top + head, width - _LEFT - 10, _PLOT)
        axes.set_title("\n".join(lines), loc="left", x=-0.25)
        axes.grid()
        result.append(axes)
    return figure, result
