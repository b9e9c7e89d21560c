"""Decide what to do when the workers of a group die. `group_trial` does it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MAX_RESTARTS = 2  # of a cell without progress, and of a group that began no cell


class Decision(Enum):
    """What to do after a death."""

    RESTART = "start the workers again"
    FAIL_CELL = "make a failed row of the cell that ran, and go on with the others"
    FAIL_GROUP = "give up the group"


@dataclass(frozen=True)
class Death:
    """The facts about a death of a group's workers."""

    cell_ran: bool  # a cell had begun since the workers started
    cell_committed: bool  # a row was committed since the workers started
    came_further: bool = False  # the cell that ran has a newer checkpoint than at its last death
    attempts: int = 0  # at the cell that ran, since it last came further
    attempts_to_grow: int = 0  # of these, attempts that began because more workers had come
    idle_deaths: int = 0  # deaths in a row, before this one, in which no cell ran or was committed


def is_idle(death: Death) -> bool:
    """Return True if no cell ran or was committed before a death."""
    return not (death.cell_ran or death.cell_committed)


def decide(death: Death) -> Decision:
    """Decide what to do after a death.

    Deaths are counted by cell. The count starts again when the cell has come further, because a
    group may lose its workers often on machines that come and go. No cell is at fault for a death
    before any cell began. Ray also ends a healthy group to start a larger one, so attempts that
    began in order to grow do not count. Growth is limited, so a cell that kills its workers still
    fails in the end.
    """
    if is_idle(death):
        return Decision.FAIL_GROUP if death.idle_deaths >= MAX_RESTARTS else Decision.RESTART
    if not death.cell_ran or death.came_further:
        return Decision.RESTART
    counted = death.attempts - death.attempts_to_grow
    return Decision.FAIL_CELL if counted > MAX_RESTARTS else Decision.RESTART
