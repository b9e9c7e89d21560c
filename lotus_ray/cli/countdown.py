"""Progress as plain lines: how much is done, and how long is left."""

from __future__ import annotations

import time
from typing import TextIO


class Countdown:
    """Prints progress to a stream, at most once a second."""

    def __init__(self, things: str, stream: TextIO) -> None:
        self.things = things
        self.stream = stream
        self._start = self._printed = time.perf_counter()

    def __call__(self, done: int, total: int, images: int) -> None:
        """Print progress.

        Args:
            done: number of things that are done.
            total: number of things.
            images: number of images in the things that are done.
        """
        now = time.perf_counter()
        if done < total and now - self._printed < 1:
            return
        self._printed = now
        spent = now - self._start
        left = f", about {spent / done * (total - done):.0f} s left" if done < total else ""
        print(
            f"{spent:7.1f} s  {done}/{total} {self.things}, {images:,} images{left}",
            file=self.stream,
        )
