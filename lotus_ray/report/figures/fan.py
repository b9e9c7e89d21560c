"""Marks that coincide, fanned out around their common place."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from lotus_ray.report.figures.looks import Look
from lotus_ray.report.figures.sheet import INK

_TOUCH = 9.0  # points: marks that are nearer lie on each other
_ROOM = 13.0  # points along the ring for each mark
Mark = tuple[float, float, Look]


def fan_out(axes: Axes, marks: Sequence[Mark]) -> None:
    """Draw a mark for each method. Those that lie on each other stand in a ring, with lines.

    Args:
        axes: with their scales, and all else that is drawn, so that their limits are known.
        marks: x, y and look of each.
    """
    for x, y, _ in marks:
        axes.update_datalim([(x, y)])
    axes.margins(0.12)
    axes.autoscale_view()
    places = [tuple(place) for place in axes.transData.transform([(x, y) for x, y, _ in marks])]
    back = axes.transData.inverted()
    for cluster in _clusters(places):
        middle = [sum(places[index][axis] for index in cluster) / len(cluster) for axis in (0, 1)]
        radius = max(_ROOM * len(cluster) / math.tau, _ROOM) if len(cluster) > 1 else 0.0
        for turn, index in enumerate(cluster):
            angle = math.tau * turn / len(cluster) + math.pi / 2
            at = (middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle))
            (x, y), (true_x, true_y, look) = (
                back.transform(at) if radius else marks[index][:2],
                marks[index],
            )
            if radius:
                axes.plot(
                    [true_x, x], [true_y, y], color=INK, linewidth=0.6, alpha=0.5, clip_on=False
                )
            axes.scatter(
                [x],
                [y],
                s=1.5 * look.size,
                c=look.colour,
                marker=look.marker,
                zorder=3,
                clip_on=False,
                linewidths=0,
            )


def _clusters(places: Sequence[tuple[float, ...]]) -> list[list[int]]:
    """Return the marks that touch, directly or through others, by index."""
    clusters: list[list[int]] = []
    for index, place in enumerate(places):
        touched = [c for c in clusters if any(math.dist(place, places[o]) < _TOUCH for o in c)]
        clusters = [c for c in clusters if c not in touched]
        clusters.append([other for cluster in touched for other in cluster] + [index])
    return clusters
