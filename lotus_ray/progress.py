"""Which cells run, which are done, how long is left: one plain line an event, from the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TextIO

from lotus_ray.store import OK, Store
from lotus_ray.todo import Todo


class Progress(AbstractContextManager["Progress"]):
    """Watch the missing cells of a grid from a thread while something else runs them."""

    def __init__(
        self, todos: Iterable[Todo], store: Store, stream: TextIO, poll_seconds: float = 0.25
    ) -> None:
        # A lane works through its cells in order, so the first one left is the one to watch.
        self._lanes = [
            (todo, [cell for cell in todo.lane.cells if cell.cell_id in todo.generations])
            for todo in todos
        ]
        self._total = sum(len(left) for _, left in self._lanes)
        self._store = store
        self._stream = stream
        self._poll_seconds = poll_seconds
        self._attempts = {
            cell.cell_id: store.attempts(cell.cell_id) for _, left in self._lanes for cell in left
        }
        self._start = time.monotonic()
        self.first_cell_after: float | None = None  # seconds until the first cell began
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self._look()

    def _look(self) -> None:
        for todo, left in self._lanes:
            while left:
                begun = self._store.attempts(left[0].cell_id)
                if begun > self._attempts[left[0].cell_id]:
                    self._attempts[left[0].cell_id] = begun
                    self._say(f"{left[0].label}, {todo.lane.name}: running")
                if not todo.is_settled(left[0], self._store):
                    break
                cell = left.pop(0)
                row = self._store.row(cell.cell_id) or {}
                status = "done" if row.get("status") == OK else row.get("status")
                self._say(f"{cell.label}, {todo.lane.name}: {status}; {self._how_far()}")

    def _how_far(self) -> str:
        left = sum(len(cells) for _, cells in self._lanes)
        done = self._total - left
        count = f"{done}/{self._total} cells"
        if not left:
            return count
        working = time.monotonic() - self._start - (self.first_cell_after or 0.0)
        return f"{count}, about {working / done * left:.0f} s left"

    def lanes_left(self) -> int:
        """Return how many lanes have a missing cell."""
        return sum(bool(left) for _, left in self._lanes)

    def say(self, text: str) -> None:
        """Write a line that is not about a cell."""
        self._stream.write(f"{time.monotonic() - self._start:7.1f} s  {text}\n")
        self._stream.flush()

    def _say(self, text: str) -> None:
        if self.first_cell_after is None:
            self.first_cell_after = time.monotonic() - self._start
        self.say(text)
