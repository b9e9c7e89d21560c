"""Who shows people how a grid stands: plain lines here, a table on a terminal in `live`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import WorkOrder


@dataclass
class GroupState:
    """How far the missing cells of a group are. Times are seconds since the grid started."""

    work_order: WorkOrder
    left: list[Cell]  # it works through its cells in order, so the first one is the one to watch
    total: int
    failed: int = 0
    running: tuple[str, float] | None = None  # the label of a cell, and when it began
    last: tuple[str, str, float | None] | None = None  # label, status and seconds of a cell

    @property
    def done(self) -> int:
        """Return how many of its cells have ended, well or not."""
        return self.total - len(self.left)

    @property
    def is_active(self) -> bool:
        """Return whether it has begun and is not through."""
        return bool(self.left) and (self.running is not None or self.done > 0)


@dataclass(frozen=True)
class GridState:
    """How a grid stands at one moment."""

    groups: Sequence[GroupState]
    elapsed_seconds: float
    seconds_left: float | None = None  # None before the first cell ends


class View(Protocol):
    """Shows a grid to people. One that raises is replaced; the grid goes on."""

    def say(self, event: str, lasting: str | None = None) -> None:
        """Show what has happened; a failure is to stay, with its reason, as `lasting` says."""

    def draw(self, grid_state: GridState) -> None:
        """Show how the grid stands."""

    def close(self) -> None:
        """Leave the terminal in order."""


class PlainLines:
    """One plain line an event: for pipes, logs and terminals that can only append."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def say(self, event: str, lasting: str | None = None) -> None:
        """Write a line."""
        self._stream.write(event + "\n")
        self._stream.flush()

    def draw(self, grid_state: GridState) -> None:
        """Do nothing: lines cannot be drawn again."""

    def close(self) -> None:
        """Do nothing."""


def view_for(stream: TextIO) -> View:
    """Return a live table where a stream is a terminal that can show one, else plain lines."""
    can_append_only = os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    if stream.isatty() and not can_append_only and not in_ci:
        from lotus_ray.grid.display.live import LiveTable

        return LiveTable.on(stream) or PlainLines(stream)
    return PlainLines(stream)
