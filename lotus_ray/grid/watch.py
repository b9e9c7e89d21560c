"""Watch a grid: read from the store which cells run and which are done, and show it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import TextIO

from lotus_ray.grid import status_files
from lotus_ray.grid.display.fallback import FallbackView
from lotus_ray.grid.display.state import GridState, GroupState
from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

BUSY = 0.05  # the most of a core that looking may take


class GridWatch(AbstractContextManager["GridWatch"]):
    """Watches the missing cells of a grid in a thread, while the main thread runs them.

    Errors of watching and showing never end the grid.
    """

    def __init__(
        self,
        work_orders: Iterable[WorkOrder],
        store: Store,
        stream: TextIO,
        poll_seconds: float = 0.25,
    ) -> None:
        missing = [(work_order, work_order.missing_cells) for work_order in work_orders]
        self._groups = [GroupState(work_order, cells, len(cells)) for work_order, cells in missing]
        self._total = sum(group.total for group in self._groups)
        self._store = store
        self._view = FallbackView(stream)
        self._poll_seconds = poll_seconds
        self._markers = store.markers()  # of attempts, by cell id
        self._start = self._last_beat = time.monotonic()
        self.first_cell_after: float | None = None  # seconds until the first cell began
        self._ends_at: float | None = None  # as estimated when the last cell ended
        self._store_was_away = False
        self._to_say: deque[str] = deque()  # lines from other threads, shown at the next look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> GridWatch:
        try:
            self._view.open()
            self._view.draw(self.grid_state())
            self._thread.start()
        except BaseException:  # Ctrl-C comes here: __exit__ will not be called
            self._view.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        try:
            self._thread.join()
            self.look()
            self._view.draw(self.grid_state())
        finally:
            self._view.close()

    def cells_left(self) -> int:
        """Return how many cells have no row yet."""
        return sum(len(group.left) for group in self._groups)

    def say(self, text: str) -> None:
        """Show a line that is not about a cell. Any thread may call this."""
        self._to_say.append(f"{self._elapsed():7.1f} s  {text}")

    def look(self) -> None:
        """Read the store once, and show changes since the last look."""
        while self._to_say:
            self._note(self._to_say.popleft())
        if not self.cells_left():
            return
        with self._store_may_be_away():
            markers, versions = self._store.markers(), self._store.next_row_versions()
            for group in self._groups:
                with self._store_may_be_away():
                    self._look_at(group, markers, versions)

    def grid_state(self) -> GridState:
        """Return the progress of the grid at the last look."""
        elapsed = self._elapsed()
        left = None if self._ends_at is None else max(self._ends_at - elapsed, 0.0)
        return GridState(self._groups, elapsed, left)

    def _run(self) -> None:
        pause = self._poll_seconds
        while not self._stop.wait(pause):
            begin = time.thread_time()
            self.look()
            self._beat()
            self._view.draw(self.grid_state())
            pause = max(self._poll_seconds, (time.thread_time() - begin) / BUSY)

    def _beat(self) -> None:
        """Write a sign of life for `lotus-ray status`. A full disk must not end the watch."""
        if time.monotonic() - self._last_beat >= status_files.HEARTBEAT_SECONDS:
            self._last_beat = time.monotonic()
            with suppress(Exception):
                status_files.write_heartbeat(self._store)

    @contextmanager
    def _store_may_be_away(self) -> Iterator[None]:
        """Ignore that the store cannot be read: the next look tries again."""
        try:
            yield
        except Exception as error:
            if not self._store_was_away:
                self._store_was_away = True
                what = getattr(error, "what", error)
                self._note(f"note: the store cannot be read, trying again: {what}")

    def _look_at(
        self, group: GroupState, markers: Mapping[str, list[str]], versions: Mapping[str, int]
    ) -> None:
        """Show new events of a group's cells, in their order.

        Args:
            group: the group.
            markers: names of the markers of attempts, by cell id.
            versions: the next row version of each cell, by cell id.
        """
        for cell in list(group.left):
            cell_id = cell.cell_id
            known, names = self._markers.get(cell_id, []), markers.get(cell_id, [])
            if new := set(names).difference(known):
                place = status_files.place_of(self._store, new)
                self._markers[cell_id] = names
                group.running[cell_id] = (cell.label, self._elapsed())
                where = f" at place {place}" if place else ""
                self._event(f"{cell.label}, {group.work_order.group.name}: running{where}")
            if versions[cell_id] > group.work_order.row_versions[cell_id]:
                row = self._store.row(cell_id) or Row()
                group.left.remove(cell)
                self._end(group, cell, row)

    def _end(self, group: GroupState, cell: Cell, row: Row) -> None:
        """Show that a cell has ended."""
        status = "done" if row.is_ok else row.status
        group.running.pop(cell.cell_id, None)
        group.last = (cell.label, status, row.total_seconds if row.timing else None)
        group.failed += not row.is_ok
        event = f"{cell.label}, {group.work_order.group.name}: {status}"
        failure = None if row.is_ok else ": ".join(filter(None, (event, row.first_error_line)))
        self._event(f"{event}; {self._count()}", failure)

    def _count(self) -> str:
        """Return how many cells have ended, and estimate how long the others take."""
        left = self.cells_left()
        done = self._total - left
        count = f"{done}/{self._total} cells"
        elapsed = self._elapsed()
        seconds_left = (elapsed - (self.first_cell_after or 0.0)) / done * left
        self._ends_at = elapsed + seconds_left
        return f"{count}, about {seconds_left:.0f} s left" if left else count

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _event(self, event: str, failure: str | None = None) -> None:
        elapsed = self._elapsed()
        if self.first_cell_after is None:
            self.first_cell_after = elapsed
        at = f"{elapsed:7.1f} s  "
        self._view.say(at + event, None if failure is None else at + failure)

    def _note(self, text: str) -> None:
        self._view.say(text, text)
