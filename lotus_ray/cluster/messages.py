"""What trials, places and the dispatcher say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from lotus_ray.job.spans import Span


@dataclass(frozen=True)
class Ask:
    """A cell that a trial submits."""

    cell_id: str
    group: int  # index of its work order
    seconds: float  # expected
    after: str | None = None  # id of the cell that must have begun


@dataclass(frozen=True)
class Claim:
    """A cell that a place has to run. `order` is the pickled work order.

    `next_group` is the group that the place would open next; None if that is loaded.
    """

    cell_id: str  # empty: the place only tries whether it can open the group
    group: int
    order: bytes
    next_group: int | None = None


CLOSE_GROUPS = Claim("", -1, b"")  # instead of a cell: others need the room


@dataclass(frozen=True)
class Ended:
    """How an attempt at a cell ended.

    Without an error, the place is done with the cell. With `died`, its workers died, or its commit
    did. With `pending`, nobody trains the original that the cell waits for. Both times it may run
    again. Else the error ends the trial.
    """

    span: Span | None = None
    error: Exception | None = None
    died: bool = False
    pending: bool = False

    @property
    def may_run_again(self) -> bool:
        """True if the trial decides whether the cell runs again."""
        return self.died or self.pending


@dataclass
class Progress:
    """Where a cell runs, and how far it is."""

    place: str
    phase: int = 0  # the first is 1; 0 before it has begun
