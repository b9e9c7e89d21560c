"""How many of a number of things are done, and how long is left: one plain line a second."""

from __future__ import annotations

import time
from typing import TextIO


class Countdown:
    """Says on a stream how many of a number of things are done, at most once a second."""

    def __init__(self, things: str, stream: TextIO) -> None:
        self.things = things
        self.stream = stream
        self._start = self._said = time.perf_counter()

    def __call__(self, done: int, total: int, images: int) -> None:
        """Report that `done` of `total` things, with so many images, are finished."""
        now = time.perf_counter()
        if done < total and now - self._said < 1:
            return
        self._said = now
        spent = now - self._start
        left = f", about {spent / done * (total - done):.0f} s left" if done < total else ""
        print(
            f"{spent:7.1f} s  {done}/{total} {self.things}, {images:,} images{left}",
            file=self.stream,
        )
