"""Which cells run, which are done, how long is left: one plain line an event, from the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TextIO

from lotus_ray.lane import Todo
from lotus_ray.store import OK, Store


class Progress(AbstractContextManager["Progress"]):
    """Watch the missing cells of a grid from a thread while something else runs them."""

    def __init__(
        self, todos: Iterable[Todo], store: Store, stream: TextIO, poll_seconds: float = 0.25
    ) -> None:
        self._cells = [
            (todo, cell)
            for todo in todos
            for cell in todo.lane.cells
            if cell.cell_id in todo.generations
        ]
        self._store = store
        self._stream = stream
        self._poll_seconds = poll_seconds
        self._attempts = {cell.cell_id: store.attempts(cell.cell_id) for _, cell in self._cells}
        self._done: set[str] = set()
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
        for todo, cell in self._cells:
            if cell.cell_id in self._done:
                continue
            begun = self._store.attempts(cell.cell_id)
            if begun > self._attempts[cell.cell_id]:
                self._attempts[cell.cell_id] = begun
                self._say(f"{cell.label}, {todo.lane.name}: running")
            if todo.is_settled(cell, self._store):
                self._done.add(cell.cell_id)
                row = self._store.row(cell.cell_id) or {}
                status = "done" if row.get("status") == OK else row.get("status")
                self._say(f"{cell.label}, {todo.lane.name}: {status}; {self._left()}")

    def _left(self) -> str:
        left = len(self._cells) - len(self._done)
        count = f"{len(self._done)}/{len(self._cells)} cells"
        if not left:
            return count
        working = time.monotonic() - self._start - (self.first_cell_after or 0.0)
        return f"{count}, about {working / len(self._done) * left:.0f} s left"

    def _say(self, text: str) -> None:
        elapsed = time.monotonic() - self._start
        if self.first_cell_after is None:
            self.first_cell_after = elapsed
        self._stream.write(f"{elapsed:7.1f} s  {text}\n")
        self._stream.flush()
