"""What the dispatcher keeps of a cell while a place has it."""

from __future__ import annotations

from dataclasses import dataclass

from lotus_ray.cluster.messages import Claim


@dataclass
class Running:
    """A cell that a place runs or commits."""

    cell_id: str
    start: str  # names the start of the place's workers
    number: int  # of the claim since that start
    claim: Claim
    heard: float  # when the place gave its last sign, on the loop's clock
    cause: Exception | None = None  # what a worker said before it died


class Held:
    """The cells that places have: each runs one, and may commit the one before."""

    def __init__(self) -> None:
        self.running: dict[str, Running] = {}  # by place
        self.committing: dict[str, Running] = {}  # by place

    def all(self) -> list[tuple[str, Running]]:
        """Return each cell that a place runs or commits, and the place."""
        return [*self.running.items(), *self.committing.items()]

    def of(self, place: str) -> list[Running]:
        """Return the cells of a place."""
        return [running for owner, running in self.all() if owner == place]

    def place_of(self, cell_id: str) -> str | None:
        """Return the place that runs or commits a cell."""
        return next((owner for owner, running in self.all() if running.cell_id == cell_id), None)

    def has_group(self, group: int) -> bool:
        """Return True if a place runs or commits a cell of a group."""
        return any(running.claim.group == group for _, running in self.all())

    def silent(self, since: float) -> list[str]:
        """Return the places with cells that have given no sign since a time."""
        return [owner for owner, running in self.all() if running.heard < since]

    def answer(self, place: str, start: str, number: int) -> Claim | None:
        """Return what a place was given to a claim, if it still runs that."""
        running = self.running.get(place)
        is_this = running and (running.start, running.number) == (start, number)
        return running.claim if running and is_this else None

    def hear(self, place: str, running: Running, commits: bool) -> None:
        """Note a sign of a place that runs or commits a cell."""
        there = self.committing if commits else self.running
        there.setdefault(place, running).heard = running.heard

    def trained(self, place: str) -> None:
        """Say that a place commits what it ran."""
        if running := self.running.pop(place, None):
            self.committing[place] = running

    def ended(self, place: str, cell_id: str) -> bool:
        """Say that a place no longer has a cell. Return whether it had it."""
        had = False
        for there in (self.running, self.committing):
            if (running := there.get(place)) and running.cell_id == cell_id:
                del there[place]
                had = True
        return had

    def take(self, place: str) -> list[Running]:
        """Take all cells from a place."""
        taken = (there.pop(place, None) for there in (self.running, self.committing))
        return [running for running in taken if running is not None]
