"""How far a grid is, as a view shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import WorkOrder


@dataclass
class GroupState:
    """How far the missing cells of a group are. Times are seconds since the grid started."""

    work_order: WorkOrder
    left: list[Cell]  # cells run in this order, so the first one is the one to watch
    total: int
    failed: int = 0
    running: tuple[str, float] | None = None  # the label of a cell, and when it began
    last: tuple[str, str, float | None] | None = None  # label, status and seconds of a cell

    @property
    def done(self) -> int:
        """Return how many cells have ended, well or not."""
        return self.total - len(self.left)

    @property
    def is_active(self) -> bool:
        """True if the group has begun and is not done."""
        return bool(self.left) and (self.running is not None or self.done > 0)


@dataclass(frozen=True)
class GridState:
    """How far a grid is at one moment."""

    groups: Sequence[GroupState]
    elapsed_seconds: float
    seconds_left: float | None = None  # None before the first cell ends
