"""When images were decoded on a node: for rows, whose seconds are ranked, to say so."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LOST_SECONDS = 600.0  # after which what did not end has died


@dataclass(frozen=True)
class DecodeLog:
    """A file to which all processes of a node append when they begin and end to decode."""

    path: Path

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Note that images are decoded from now to the end of the block.

        A node without the folder of the file runs no cell of the command: nothing is noted.
        """
        name = uuid.uuid4().hex
        self._note(name)
        try:
            yield
        finally:
            self._note(name)

    def seconds_between(self, begin: float, end: float) -> float:
        """Return for how many of the seconds between two times of this clock images were decoded.

        Args:
            begin: seconds since 1970.
            end: the same.
        """
        spans = sorted(
            (max(first, begin), min(last, end))
            for first, last in self._spans(end)
            if first < end and last > begin
        )
        total, until = 0.0, begin
        for first, last in spans:
            total += max(last - max(first, until), 0.0)
            until = max(until, last)
        return total

    def _note(self, name: str) -> None:
        with suppress(OSError), self.path.open("a") as file:
            file.write(f"{name} {time.time()}\n")  # one short write: lines do not mix

    def _spans(self, now: float) -> list[tuple[float, float]]:
        """Return when each block began and ended. One that has not ended ends at `now`."""
        begun: dict[str, float] = {}
        spans = []
        with suppress(OSError):
            for line in self.path.read_text().splitlines():
                name, _, moment = line.partition(" ")
                with suppress(ValueError):
                    if name in begun:
                        spans.append((begun.pop(name), float(moment)))
                    else:
                        begun[name] = float(moment)
        spans += [(begin, now) for begin in begun.values() if now - begin < LOST_SECONDS]
        return spans
