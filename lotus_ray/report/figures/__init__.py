"""The figures of a table by name. Each is a function of the table and its store."""

from __future__ import annotations

from collections.abc import Callable

from lotus_ray.report.entries import Group
from lotus_ray.report.figures import (
    agreement,
    losses,
    rf_jsd,
    streisand,
    temperature,
    time,
    trade_off,
)
from lotus_ray.report.figures.sheet import Drawing, space_ticks, styled
from lotus_ray.store.results import Store

FIGURES: dict[str, Callable[[Group, Store], Drawing]] = {
    "rf-jsd": rf_jsd.draw,
    "time": time.draw,
    "trade-off": trade_off.draw,
    "agreement": agreement.draw,
    "streisand": streisand.draw,
    "temperature": temperature.draw,
    "losses": losses.draw,
}


def draw(name: str, group: Group, store: Store) -> Drawing:
    """Draw a figure of a table in the style of the report.

    Args:
        name: a key of FIGURES.
        group: the table.
        store: with the cells' artifacts.
    """
    with styled():
        drawing = FIGURES[name](group, store)
        if drawing.figure is not None:
            space_ticks(drawing.figure)
        return drawing
