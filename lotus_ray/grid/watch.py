"""Which cells run, which are done, how long is left: found in the store, told to a view."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import TextIO

from lotus_ray.base.timestamps import utc_now
from lotus_ray.grid.display.choose import view_for
from lotus_ray.grid.display.state import GridState, GroupState
from lotus_ray.grid.display.view import PlainLines, View
from lotus_ray.grid.status_files import HEARTBEAT, HEARTBEAT_SECONDS
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

MANY_GROUPS = 8  # from then on a list of the whole store is less than lists of each group's cell


class Progress(AbstractContextManager["Progress"]):
    """Watch the missing cells of a grid from a thread while something else runs them.

    Nothing that goes wrong in watching or showing ends the grid.
    """

    def __init__(
        self,
        work_orders: Iterable[WorkOrder],
        store: Store,
        stream: TextIO,
        poll_seconds: float = 0.25,
    ) -> None:
        self._groups = []
        for work_order in work_orders:
            left = work_order.missing_cells
            self._groups.append(GroupState(work_order, left, len(left)))
        self._total = sum(group.total for group in self._groups)
        self._store = store
        self._stream = stream
        self._view: View = PlainLines(stream)
        self._poll_seconds = poll_seconds
        self._attempts = _tries(store)
        self._start = self._last_beat = time.monotonic()
        self.first_cell_after: float | None = None  # seconds until the first cell began
        self._ends_at: float | None = None  # as estimated when the last cell ended
        self._store_was_away = False
        self._to_say: deque[str] = deque()  # by other threads; this one alone moves the view
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        try:
            self._open()
            self._show(lambda view: view.draw(self._grid_state()))
            self._thread.start()
        except BaseException:  # __exit__ is not called where Ctrl-C comes here
            self._show(lambda view: view.close())
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
            self._look()
            self._show(lambda view: view.draw(self._grid_state()))
        finally:
            self._show(lambda view: view.close())

    def groups_left(self) -> int:
        """Return how many groups have a missing cell."""
        return sum(bool(group.left) for group in self._groups)

    def say(self, text: str) -> None:
        """Tell a line that is not about a cell, from any thread."""
        self._to_say.append(f"{self._elapsed():7.1f} s  {text}")

    def _open(self) -> None:
        try:
            self._view = view_for(self._stream)
        except Exception as error:
            self._fall_back(error)

    def _watch(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            self._look()
            self._beat()
            self._show(lambda view: view.draw(self._grid_state()))

    def _beat(self) -> None:
        """Leave a sign of life for `lotus-ray status`, which a full disk must not end."""
        if time.monotonic() - self._last_beat >= HEARTBEAT_SECONDS:
            self._last_beat = time.monotonic()
            with suppress(Exception):
                self._store.replace(HEARTBEAT, json.dumps({"at": utc_now()}).encode())

    def _look(self) -> None:
        while self._to_say:
            self._note(self._to_say.popleft())
        for group in self._with_news():
            with self._trying_again():
                self._look_at(group)

    def _with_news(self) -> list[GroupState]:
        """Return the groups to look at: of many, those whose cell has a new try or a new row."""
        groups = [group for group in self._groups if group.left]
        if len(groups) < MANY_GROUPS:
            return groups
        with self._trying_again():
            tries, row_versions = _tries(self._store), self._store.next_row_versions()
            watched = [(group, group.left[0].cell_id) for group in groups]
            return [
                group
                for group, cell in watched
                if tries[cell] > self._attempts[cell]
                or row_versions[cell] > group.work_order.row_versions[cell]
            ]
        return []

    @contextmanager
    def _trying_again(self) -> Iterator[None]:
        """Pass over a disk that is away for a moment; it is looked at again soon."""
        try:
            yield
        except Exception as error:
            if not self._store_was_away:
                self._store_was_away = True
                what = getattr(error, "what", error)
                self._note(f"note: the store cannot be read, trying again: {what}")

    def _look_at(self, group: GroupState) -> None:
        name = group.work_order.group.name
        while group.left:
            cell = group.left[0]
            begun = self._store.attempts(cell.cell_id)
            if begun > self._attempts[cell.cell_id]:
                self._attempts[cell.cell_id] = begun
                group.running = (cell.label, self._elapsed())
                self._tell(f"{cell.label}, {name}: running")
            if not group.work_order.is_settled(cell, self._store):
                break
            row = self._store.row(cell.cell_id) or Row()
            group.left.pop(0)
            is_ok = row.is_ok
            status = "done" if is_ok else row.status
            group.running = None
            group.last = (cell.label, str(status), _seconds(row))
            group.failed += not is_ok
            place = f"{cell.label}, {name}: {status}"
            failure = None if is_ok else ": ".join(filter(None, (place, _reason(row))))
            self._tell(f"{place}; {self._how_far()}", failure)

    def _how_far(self) -> str:
        left = sum(len(group.left) for group in self._groups)
        done = self._total - left
        count = f"{done}/{self._total} cells"
        elapsed = self._elapsed()
        working = elapsed - (self.first_cell_after or 0.0)
        seconds_left = working / done * left
        self._ends_at = elapsed + seconds_left
        return f"{count}, about {seconds_left:.0f} s left" if left else count

    def _grid_state(self) -> GridState:
        elapsed = self._elapsed()
        left = None if self._ends_at is None else max(self._ends_at - elapsed, 0.0)
        return GridState(self._groups, elapsed, left)

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _tell(self, event: str, failure: str | None = None) -> None:
        elapsed = self._elapsed()
        if self.first_cell_after is None:
            self.first_cell_after = elapsed
        at = f"{elapsed:7.1f} s  "
        self._show(lambda view: view.say(at + event, None if failure is None else at + failure))

    def _note(self, text: str) -> None:
        self._show(lambda view: view.say(text, text))

    def _show(self, act: Callable[[View], None]) -> None:
        """Let the view act; one that cannot gives way to plain lines."""
        try:
            act(self._view)
        except Exception as error:
            self._fall_back(error)
            with suppress(Exception):  # nobody can be told
                act(self._view)

    def _fall_back(self, error: Exception) -> None:
        with suppress(Exception):
            self._view.close()
        self._view = PlainLines(self._stream)
        with suppress(Exception):
            self._view.say(f"note: plain lines from here: {error!r}")


def _tries(store: Store) -> Counter[str]:
    """Return how many tries at each cell were begun."""
    return Counter({cell_id: len(names) for cell_id, names in store.markers().items()})


def _seconds(row: Row) -> float | None:
    return row.total_seconds if row.timing else None


def _reason(row: Row) -> str:
    return row.first_error_line
