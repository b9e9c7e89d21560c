"""The cells that trials have submitted to the dispatcher, and how each ends."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from lotus_ray.cluster.messages import Ask, Ended, Progress

CLOSE = 0.1  # a loaded group goes before cells that are longer by less than this part


@dataclass
class Ticket:
    """A cell that a trial has submitted."""

    ask: Ask
    end: asyncio.Future[Ended]
    progress: Progress | None = None  # None while it waits
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waits(self) -> bool:
        """True if no place has the cell, and it has not ended."""
        return self.progress is None and not self.end.done()


class Tickets:
    """The tickets of a grid, one a cell."""

    def __init__(self) -> None:
        self.over: dict[str, Exception | None] = {}  # cells that run no more, and what ended them
        self.changed = asyncio.Event()  # a cell may be claimed, or runs no more
        self._by_cell: dict[str, Ticket] = {}

    def submit(self, ask: Ask, place: str | None) -> None:
        """Submit a cell. One that is submitted, runs, or runs no more stays as it is.

        Args:
            ask: the cell.
            place: that has it, as a dispatcher that was started again has heard.
        """
        ticket = self.find(ask.cell_id)
        if ticket is None or (ticket.end.done() and ticket.end.result().may_run_again):
            progress = None if place is None else Progress(place)
            ticket = Ticket(ask, asyncio.get_running_loop().create_future(), progress)
            self._by_cell[ask.cell_id] = ticket
        if error := self.over.get(ask.after or ""):
            self.end(ask.cell_id, Ended(error=error))
        self.changed.set()

    def find(self, cell_id: str) -> Ticket | None:
        """Return the last ticket of a cell."""
        return self._by_cell.get(cell_id)

    def waiting(self) -> list[Ticket]:
        """Return the tickets that no place has."""
        return [ticket for ticket in self._by_cell.values() if ticket.waits]

    async def follow(self, cell_id: str, seen: Progress | None) -> Progress | Ended | None:
        """Wait until a cell moves on.

        Args:
            cell_id: a submitted cell.
            seen: the last progress that the caller knows.

        Returns:
            Its new progress, its end, or None if the cell is unknown here.
        """
        ticket = self.find(cell_id)
        while ticket is not None and not ticket.end.done() and ticket.progress == seen:
            ticket.moved.clear()
            await ticket.moved.wait()
        if ticket is None:
            return None
        return ticket.end.result() if ticket.end.done() else ticket.progress

    def move(self, ticket: Ticket | None, progress: Progress | None) -> None:
        """Note how far a cell is."""
        if ticket is not None and not ticket.end.done():
            ticket.progress = progress
            ticket.moved.set()

    def end(self, cell_id: str, ended: Ended) -> None:
        """End the ticket of a cell, once."""
        ticket = self.find(cell_id)
        if ticket is None or ticket.end.done():
            return
        ticket.end.set_result(ended)
        ticket.moved.set()
        if not ended.may_run_again:
            self.finish(cell_id, ended.error)
        self.changed.set()

    def end_all(self, error: Exception) -> None:
        """End every ticket with an error."""
        for cell_id in list(self._by_cell):
            self.end(cell_id, Ended(error=error))

    def finish(self, cell_id: str, error: Exception | None) -> None:
        """Count a cell as over, once. An error ends what waits for the cell, too."""
        self.over.setdefault(cell_id, error)
        for ticket in self.waiting() if error else ():
            if ticket.ask.after == cell_id:
                self.end(ticket.ask.cell_id, Ended(error=error))
        self.changed.set()


def best(ready: Collection[Ticket], loaded: Collection[int], stays: bool = False) -> Ticket | None:
    """Return the longest cell, or one of a loaded group that is about as long; None of none.

    Args:
        ready: cells that wait.
        loaded: groups whose images need not be loaded.
        stays: a cell of a loaded group comes first, however short it is.
    """
    longest = max(ready, key=lambda ticket: ticket.ask.seconds, default=None)
    if longest is None:
        return None
    near = [
        ticket
        for ticket in ready
        if ticket.ask.group in loaded
        and (stays or ticket.ask.seconds >= (1 - CLOSE) * longest.ask.seconds)
    ]
    return max(near, key=lambda ticket: ticket.ask.seconds, default=longest)
