"""Which cell runs next: the longest of those that are ready."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lotus_ray.job.makespan import ways_to_end
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.unlearning.find_method import described_method
from lotus_ray.unlearning.methods.from_scratch import FromScratch


@dataclass(frozen=True)
class Task:
    """A missing cell, and what it waits for.

    A method needs the row of its original. A gold standard may begin beside its original: only its
    evaluation needs that row. So it is never taken before its original.
    """

    cell_id: str
    label: str
    group: int  # index of its work order
    seconds: float  # expected, in any unit
    needs: str | None = None  # id of the cell that must have ended
    after: str | None = None  # id of the cell that must have been taken


def tasks(work_orders: Sequence[WorkOrder], seconds: Mapping[str, float]) -> list[Task]:
    """Return a task for each missing cell.

    Args:
        work_orders: groups with missing cells.
        seconds: expected, by cell id. Cells that are not in it take one second.
    """
    return [
        Task(
            cell.cell_id,
            cell.label,
            index,
            seconds.get(cell.cell_id, 1.0),
            **_waits_for(work_order, cell.cell_id, cell.spec["method"]),
        )
        for index, work_order in enumerate(work_orders)
        for cell in work_order.missing_cells
    ]


def _waits_for(work_order: WorkOrder, cell_id: str, method: Mapping[str, Any]) -> dict[str, str]:
    original = work_order.group.original.cell_id
    if cell_id == original or original not in work_order.row_versions:
        return {}
    return {"after" if issubclass(described_method(method), FromScratch) else "needs": original}


def most_at_once(waiting: Sequence[Task]) -> int:
    """Return how many tasks can run at once, given enough places.

    What needs an original runs after it: of the two only the larger number counts.
    """
    ids = {task.cell_id for task in waiting}
    dependants = Counter(task.needs for task in waiting if task.needs in ids)
    return sum(max(dependants[task.cell_id], 1) for task in waiting if task.needs not in ids)


class ReadyTasks:
    """Gives out tasks, each as soon as it is ready, those with the longest way to the end first.

    Source: Graham 1969, list schedules; Hu 1961, the longest way first. Deviation: none.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        waiting = list(tasks)
        self._by_need: dict[str, list[Task]] = defaultdict(list)
        self._ready: list[tuple[float, int, Task]] = []
        self._order = {task.cell_id: index for index, task in enumerate(waiting)}
        self.left = len(waiting)  # tasks that were not taken
        self._ways = ways_to_end(
            {task.cell_id: task.seconds for task in waiting},
            {task.cell_id: [task.needs] for task in waiting if task.needs},
        )
        for task in waiting:
            before = task.needs or task.after
            if before in self._order:
                self._by_need[before].append(task)
            else:
                self._push(task)

    def take(self, stay: int | None = None) -> Task | None:
        """Return the longest ready task, or None if none is ready now.

        Args:
            stay: a group whose tasks come before all others.
        """
        if not self._ready:
            return None
        own = [entry for entry in self._ready if entry[2].group == stay]
        if own:
            self._ready.remove(min(own))
            heapq.heapify(self._ready)
        *_, task = min(own) if own else heapq.heappop(self._ready)
        self.left -= 1
        self._free(task.cell_id, lambda other: other.after == task.cell_id)
        return task

    def ended(self, task: Task) -> None:
        """Say that a task has ended, well or not. What needs it is ready now."""
        self._free(task.cell_id, lambda other: other.needs == task.cell_id)

    def drop(self, task: Task) -> list[Task]:
        """Say that a task ended without a row. Return what needs it: it is never given out."""
        dropped = self._by_need.pop(task.cell_id, [])
        self.left -= len(dropped)
        return dropped

    def _free(self, cell_id: str, is_freed: Callable[[Task], bool]) -> None:
        waiting = self._by_need.pop(cell_id, [])
        for task in waiting:
            if is_freed(task):
                self._push(task)
        if kept := [task for task in waiting if not is_freed(task)]:
            self._by_need[cell_id] = kept

    def _push(self, task: Task) -> None:
        order = self._order[task.cell_id]
        heapq.heappush(self._ready, (-self._ways[task.cell_id], order, task))
