"""How long to retry a server that is busy, slow or unreachable."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

_chance = random.Random()  # separate from other generators: no result depends on it


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of retrying: no request starts after `total_seconds`.

    The last try takes one request of at most `request_seconds`; a create that meets an object
    takes two. Each part of a large object is a request with its own limit.
    """

    first_seconds: float = 0.1
    longest_seconds: float = 10.0
    total_seconds: float = 120.0
    request_seconds: float = 60.0
    connect_seconds: float = 5.0

    def pauses(self) -> Iterator[None]:
        """Wait before each new try, about twice as long each time, up to `total_seconds`.

        The length of each pause is random, so that writers who collided do not collide again.
        """
        start = time.monotonic()
        bound = self.first_seconds
        while True:
            pause = _chance.uniform(bound / 2, bound)
            if time.monotonic() - start + pause > self.total_seconds:
                return
            time.sleep(pause)
            yield
            bound = min(2 * bound, self.longest_seconds)


PATIENCE = RetryPolicy()
