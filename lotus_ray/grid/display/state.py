"""The progress of a grid, for views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import WorkOrder


@dataclass
class GroupState:
    """Progress of the missing cells of a group. Times are seconds since the grid started."""

    work_order: WorkOrder
    left: list[Cell]  # in the order of running: the first one is watched
    total: int
    failed: int = 0
    running: tuple[str, float] | None = None  # the label of a cell, and when it began
    last: tuple[str, str, float | None] | None = None  # label, status and seconds of a cell

    @property
    def done(self) -> int:
        """Number of cells that have ended, including failed ones."""
        return self.total - len(self.left)

    @property
    def is_active(self) -> bool:
        """True if the group has begun and is not done."""
        return bool(self.left) and (self.running is not None or self.done > 0)


@dataclass(frozen=True)
class GridState:
    """Progress of a grid at one moment."""

    groups: Sequence[GroupState]
    elapsed_seconds: float
    seconds_left: float | None = None  # None before the first cell ends
