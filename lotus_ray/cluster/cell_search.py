"""Ray Tune's search algorithm: the next trial is the longest ready cell."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from lotus_ray.job.ready import ReadyTasks, Task


def most_submitted(places: int) -> int:
    """Return how many cells are submitted at once.

    One more than there are places, so that no place waits for a trial; and as each place may commit
    a cell while it runs the next, a few more. Each costs a process that waits.
    """
    return places + 1 + math.ceil(places / 4)


class CellSearch(Searcher):  # type: ignore[misc]
    """Suggests cells as they become ready."""

    def __init__(
        self,
        ready: ReadyTasks,
        configs: dict[str, dict[str, Any]],
        places: Callable[[], int],
        dropped: Callable[[list[str]], None],
    ) -> None:
        """Keep what there is to suggest.

        Args:
            ready: the missing cells.
            configs: of each trial, by cell id.
            places: how many cells can run now.
            dropped: is given the ids of cells that will never be suggested.
        """
        super().__init__(metric="done", mode="max")
        self._ready = ready
        self._configs = configs
        self._places = places
        self._dropped = dropped
        self._running: dict[str, Task] = {}
        self._ahead: deque[Task] = deque()

    def ahead(self, count: int) -> list[Task]:
        """Return up to `count` ready cells, which are suggested next. They may be submitted now."""
        while len(self._ahead) < count and (task := self._ready.take()):
            self._ahead.append(task)
        return list(self._ahead)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next cell's configuration, None while none is ready, FINISHED at the end."""
        if not self._ready.left and not self._ahead:
            return Searcher.FINISHED  # type: ignore[no-any-return]
        if len(self._running) >= most_submitted(self._places()):
            return None
        task = self._ahead.popleft() if self._ahead else self._ready.take()
        if task is None:
            return None
        self._running[trial_id] = task
        return self._configs[task.cell_id]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Free what waits for the cell; or drop it, if the cell has no row."""
        task = self._running.pop(trial_id)
        if not error and "error" not in (result or {}):
            self._ready.ended(task)
        elif dropped := self._ready.drop(task):
            self._dropped([each.cell_id for each in dropped])

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing for the copy that Tune keeps: a grid is resumed from its store."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the store has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
