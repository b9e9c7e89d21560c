"""How long a server that is busy, slow or out of reach is asked again."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

_chance = random.Random()  # of its own: no result depends on it


@dataclass(frozen=True)
class RetryPolicy:
    """Bounds of asking again: nothing is begun after `total_seconds`.

    What was begun before takes one request of at most `request_seconds`, a create that meets an
    object two. Of a large object each part is a request of its own, with a patience of its own.
    """

    first_seconds: float = 0.1
    longest_seconds: float = 10.0
    total_seconds: float = 120.0
    request_seconds: float = 60.0
    connect_seconds: float = 5.0

    def pauses(self) -> Iterator[None]:
        """Wait before each new try, about twice as long each time, until patience ends.

        Of each pause a random part is waited, so that writers who met do not meet again.
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
