"""Hand cells to places: an actor between the trials of Ray Tune and the workers of Ray Train.

A trial submits its cell and waits for its end. A place claims a cell, runs it and says how it
ended. Only claims live here. What is done stands in the store. If this actor dies, Ray starts it
again: trials submit again, and places that run a cell say so at the next beat.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from lotus_ray.cluster.held import Held, Running
from lotus_ray.cluster.messages import CLOSE_GROUPS, Ask, Claim, Ended, Progress
from lotus_ray.cluster.refusals import Refusals
from lotus_ray.cluster.tickets import Ticket, Tickets, best

NAME = "lotus-ray-dispatcher"
CLAIM_SECONDS = 20.0  # a claim that finds no cell for so long returns
BEAT_SECONDS = 1.0  # between two beats of a place that runs a cell
LEARN_SECONDS = 4 * BEAT_SECONDS  # a dispatcher that was started again listens first
SILENT_SECONDS = 30 * BEAT_SECONDS  # after which another place may run the cell


class Dispatcher:
    """Knows which cells wait, and which place runs which cell."""

    def __init__(self, orders: list[bytes], cells: int, again: bool = False) -> None:
        """Start with nothing submitted.

        Args:
            orders: pickled work orders, by index.
            cells: how many will be submitted in all.
            again: True if an earlier dispatcher of this grid has died.
        """
        self._orders = orders
        self._cells = cells
        self._tickets = Tickets()
        self._held = Held()
        self._begun: set[str] = set()  # cells that were claimed
        self._starts: dict[str, str] = {}  # the last start of each place's workers that claimed
        self._groups: dict[str, object] = {}  # the placement group of each place's workers
        self._refusals = Refusals(len(orders))
        self._notes: list[str] = []
        self._closed: Exception | bool | None = False
        self._again = self._listens = again

    # For trials.

    async def run(self, ask: Ask) -> None:
        """Submit a cell. One that is submitted, runs, or runs no more stays as it is."""
        self._tickets.submit(ask, self._held.place_of(ask.cell_id))
        if isinstance(self._closed, Exception):
            self._tickets.end(ask.cell_id, Ended(error=self._closed))

    async def follow(self, cell_id: str, seen: Progress | None) -> Progress | Ended | None:
        """Wait until a cell moves on, as `Tickets.follow` does."""
        return await self._tickets.follow(cell_id, seen)

    # For places.

    async def claim(
        self, place: str, start: str, number: int, loaded: list[int], stays: bool = False
    ) -> Claim | None:
        """Claim a cell. Wait up to CLAIM_SECONDS for one.

        A place whose workers were started again, and that was running a cell, has lost it.

        Args:
            place: name of the place.
            start: names this start of its workers.
            number: of the claim since that start. The same number gets the same answer.
            loaded: groups that the place has loaded.
            stays: their cells come first: the place's node has no room for more groups.

        Returns:
            The cell; CLOSE_GROUPS; None if there is none yet. If there will be none: `is_over`.
        """
        if claim := self._held.answer(place, start, number):
            return claim
        if self._starts.get(place) != start:
            self._refusals.forget(place)
        self._starts[place] = start
        if place in self._held.running or any(r.start != start for r in self._held.of(place)):
            self._lose(place)
        if self._refusals.loads(place, loaded):
            self._tickets.changed.set()
        end = _now() + CLAIM_SECONDS
        await self._listen()
        while (ticket := self._best(place, loaded, stays)) is None:
            self._refusals.heard(place, _now())
            self._lose_silent()
            self._give_up()
            if loaded and self._refusals.others_lack_room(place, self._waiting_groups()):
                return CLOSE_GROUPS
            left = end - _now()
            if left <= 0 or await self.is_over():
                return None
            self._tickets.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._tickets.changed.wait(), min(left, 5.0))
            if claim := self._held.answer(place, start, number):
                return claim  # to the same question, asked twice
            if self._starts[place] != start:
                return None  # to workers that are gone
        ask = ticket.ask
        self._begun.add(ask.cell_id)
        self._tickets.move(ticket, Progress(place))
        following = self._next_group(place, [ask.group, *loaded])
        claim = Claim(ask.cell_id, ask.group, self._orders[ask.group], following)
        self._held.running[place] = Running(claim.cell_id, start, number, claim, _now())
        self._tickets.changed.set()
        return claim

    async def is_over(self) -> bool:
        """Return True if a place that waits for a cell will get none."""
        held = sum(running.cell_id not in self._tickets.over for _, running in self._held.all())
        return self._closed is not False or await self.left() <= held

    async def beat(
        self, place: str, start: str, number: int, claim: Claim, phase: int | None
    ) -> None:
        """Say that a place still runs a cell, and in which phase; None if it commits the cell."""
        if self._starts.setdefault(place, start) != start:
            return  # of workers that are gone
        self._refusals.heard(place, _now())
        if not claim.cell_id:
            return  # it tries whether it can open a group
        running = Running(claim.cell_id, start, number, claim, _now())
        self._held.hear(place, running, commits=phase is None)
        self._begun.add(claim.cell_id)
        ticket = self._tickets.find(claim.cell_id)
        if ticket and (phase is not None or ticket.progress is None):
            self._tickets.move(ticket, Progress(place, phase or 0))

    async def trained(self, place: str) -> None:
        """Say that a place has run its cell. It commits the cell, and may claim the next one."""
        self._held.trained(place)

    async def runs(self, cell_id: str) -> bool:
        """Return True if a place runs a cell."""
        await self._listen()
        return self._held.place_of(cell_id) is not None

    async def has_failed(self, cell_id: str) -> bool:
        """Return True if an error ended a cell, so that no place will run it."""
        return self._tickets.over.get(cell_id) is not None

    async def ended(self, place: str, cell_id: str, ended: Ended) -> None:
        """Say how a place's cell ended."""
        self._held.ended(place, cell_id)
        if ticket := self._tickets.find(cell_id):
            self._free(ticket.ask.group)
        self._tickets.end(cell_id, ended)

    async def refused(self, place: str, claim: Claim, error: Exception) -> Claim | None:
        """Take a cell back whose group a place cannot open. The cell waits for another place.

        Args:
            place: name of the place. Until it claims again it says nothing about other groups.
            claim: what it had to do.
            error: why it cannot.

        Returns:
            Another group to try, without a cell; None: it ends, or claims again if it lacks room.
        """
        if self._held.ended(place, claim.cell_id):
            self._begun.discard(claim.cell_id)
            if ticket := self._tickets.find(claim.cell_id):
                self._tickets.move(ticket, None)
        self._tickets.changed.set()
        self._refusals.heard(place, _now())
        group = self._refusals.add(place, claim.group, error)
        return None if group is None else Claim("", group, self._orders[group])

    async def fell(self, place: str, cause: Exception) -> None:
        """Say what ends a worker. Its place's workers will be started again."""
        for running in self._held.of(place):
            running.cause = running.cause or cause

    async def lost(self, place: str, cause: Exception | None = None) -> str:
        """Say that a place's workers are gone. Return the last start of them that claimed."""
        self._lose(place, cause)
        await self.gone(place)
        return self._starts.get(place, "")

    async def gone(self, place: str) -> None:
        """Say that a place has no workers any more, and no cell."""
        self._refusals.gone(place)
        self._tickets.changed.set()

    async def keep_group(self, place: str, group: object) -> None:
        """Keep the placement group of a place's workers."""
        self._groups[place] = group

    async def take_group(self, place: str) -> object | None:
        """Return the placement group of a place's workers, once; None: they have said none."""
        return self._groups.pop(place, None)

    async def note(self, text: str) -> None:
        """Keep a line that the command will show."""
        self._notes.append(text)

    # For the command.

    async def close(self, error: Exception | None = None) -> None:
        """End every place that waits, and with an error every trial."""
        self._closed = error or True
        if error:
            self._tickets.end_all(error)
        self._tickets.changed.set()

    async def places(self) -> int:
        """Return how many places have claimed a cell."""
        return len(self._starts)

    async def notes(self) -> list[str]:
        """Return the lines that were kept since the last call.

        This is asked again and again, so it finds silent places even where no place claims a cell.
        """
        self._lose_silent()
        notes, self._notes = self._notes, []
        return notes

    async def left(self) -> int:
        """Return how many cells have not ended."""
        return self._cells - len(self._tickets.over)

    async def order(self, group: int) -> bytes:
        """Return a pickled work order."""
        return self._orders[group]

    async def dropped(self, cells: list[str], error: Exception | None = None) -> None:
        """Say that cells will never be submitted, or not again, and what ended their trials."""
        for cell_id in cells:
            self._tickets.finish(cell_id, error)

    def _best(self, place: str, loaded: list[int], stays: bool = False) -> Ticket | None:
        """Return the waiting cell that a place runs next, or None if there is none for it."""
        ready = [
            ticket
            for ticket in self._tickets.waiting()
            if not self._refusals.has(place, ticket.ask.group) and self._may_begin(ticket.ask)
        ]
        return best(ready, loaded, stays)

    def _waiting_groups(self) -> set[int]:
        """Return the groups with a cell that a place may begin."""
        waiting = self._tickets.waiting()
        return {ticket.ask.group for ticket in waiting if self._may_begin(ticket.ask)}

    def _next_group(self, place: str, loaded: list[int]) -> int | None:
        """Return the group that a place would open now; None if that is loaded."""
        ticket = self._best(place, loaded)
        return ticket.ask.group if ticket and ticket.ask.group not in loaded else None

    def _may_begin(self, ask: Ask) -> bool:
        """Return True if the cell has begun that has to begin before another, or runs no more."""
        if ask.after is None or ask.after in self._begun or ask.after in self._tickets.over:
            return True
        before = self._tickets.find(ask.after)  # an earlier dispatcher knew more
        return self._again and (before is None or before.progress is not None or before.end.done())

    def _lose(self, place: str, cause: Exception | None = None) -> None:
        for running in self._held.take(place):
            self._begun.discard(running.cell_id)  # what has to begin after it waits for it again
            self._free(running.claim.group)
            self._tickets.end(running.cell_id, Ended(error=running.cause or cause, died=True))

    def _free(self, group: int) -> None:
        """Say that a cell of a group has ended. After the last one, others may use its room."""
        if not self._held.has_group(group):
            self._refusals.freed()

    def _lose_silent(self) -> None:
        """Lose the cells of silent places: their nodes died, and they wait for others."""
        since = _now() - SILENT_SECONDS
        for place in self._held.silent(since):
            self._lose(place)
        self._refusals.lose_silent(since)

    def _give_up(self) -> None:
        """End the cells that wait for a place, if none that is there can open their group."""
        since = _now() - SILENT_SECONDS
        for group, error in self._refusals.useless(since, bool(self._held.all())).items():
            for ticket in self._tickets.waiting():
                if ticket.ask.group == group:
                    self._tickets.end(ticket.ask.cell_id, Ended(error=error))

    async def _listen(self) -> None:
        """Wait once, if an earlier dispatcher died, until every place that runs has said so."""
        if self._listens:
            await asyncio.sleep(LEARN_SECONDS)
            self._listens = False


def _now() -> float:
    return asyncio.get_running_loop().time()
