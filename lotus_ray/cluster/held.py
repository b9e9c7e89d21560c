"""What the dispatcher keeps of a cell: while it is submitted, and while a place has it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from lotus_ray.cluster.messages import Ask, Claim, Ended, Progress


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
