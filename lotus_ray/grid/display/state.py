"""The progress of a grid, for views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import WorkOrder


@dataclass
class GroupState:
    """Progress of the missing cells of a group. Times are seconds since the grid started."""

    work_order: WorkOrder
    left: list[Cell]  # those without a row
    total: int
    failed: int = 0
    running: dict[str, tuple[str, float]] = field(default_factory=dict)  # label, begin; by cell id
    last: tuple[str, str, float | None] | None = None  # label, status and seconds of a cell

    @property
    def done(self) -> int:
        """Number of cells that have ended, including failed ones."""
        return self.total - len(self.left)

    @property
    def is_active(self) -> bool:
        """True if the group has begun and is not done."""
        return bool(self.left) and (bool(self.running) or self.done > 0)


@dataclass(frozen=True)
class GridState:
    """Progress of a grid at one moment."""

    groups: Sequence[GroupState]
    elapsed_seconds: float
    seconds_left: float | None = None  # None before the first cell ends
