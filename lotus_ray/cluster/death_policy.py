"""Decide what to do when the workers that run a cell die. `cell_trial` does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MAX_RESTARTS = 2  # of a cell without progress, and of a place that claimed no cell


class Decision(Enum):
    """What to do after a death."""

    RUN_AGAIN = "submit the cell again"
    FAIL_CELL = "make a failed row of the cell"


@dataclass(frozen=True)
class Death:
    """The facts about a death of the workers that had claimed a cell."""

    cell_ran: bool  # the attempt at the cell had begun
    came_further: bool = False  # the cell has a newer checkpoint than at its last death
    attempts: int = 0  # at the cell, since it last came further
    attempts_to_grow: int = 0  # of these, attempts that began because more workers had come


def decide(death: Death) -> Decision:
    """Decide what to do after a death.

    The count of a cell's deaths starts again when it has come further, because a place may lose its
    workers often on machines that come and go. No cell is at fault for a death before it began. Ray
    also ends healthy workers to start a larger group of them, so attempts that began in order to
    grow do not count. Growth is limited, so a cell that kills its workers still fails in the end.
    """
    if not death.cell_ran or death.came_further:
        return Decision.RUN_AGAIN
    counted = death.attempts - death.attempts_to_grow
    return Decision.FAIL_CELL if counted > MAX_RESTARTS else Decision.RUN_AGAIN
