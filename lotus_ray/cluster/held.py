"""What the dispatcher keeps of a cell while it is submitted, and while a place has it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from lotus_ray.cluster.messages import Ask, Claim, Ended, Progress

CLOSE = 0.1  # a loaded group goes before cells that are longer by less than this part


@dataclass
class Ticket:
    """A cell that a trial has submitted."""

    ask: Ask
    end: asyncio.Future[Ended]
    progress: Progress | None = None  # None while it waits
    moved: asyncio.Event = field(default_factory=asyncio.Event)


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

    def answer(self, place: str, start: str, number: int) -> Claim | None:
        """Return what a place was given to a claim, if it still runs that."""
        running = self.running.get(place)
        is_this = running and (running.start, running.number) == (start, number)
        return running.claim if running and is_this else None

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


def best(ready: Collection[Ticket], loaded: Collection[int]) -> Ticket | None:
    """Return the longest cell, or one of a loaded group that is about as long; None of none."""
    longest = max(ready, key=lambda ticket: ticket.ask.seconds, default=None)
    if longest is None:
        return None
    near = [
        ticket
        for ticket in ready
        if ticket.ask.group in loaded and ticket.ask.seconds >= (1 - CLOSE) * longest.ask.seconds
    ]
    return max(near, key=lambda ticket: ticket.ask.seconds, default=longest)
