"""One trial of Ray Tune: run the missing cells of one group, and restart workers that die."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import ray.train

from lotus_ray.cluster.causes import explain, first_failure, raise_store_error
from lotus_ray.cluster.death_policy import Death, Decision, decide, is_idle
from lotus_ray.job.cells import Cell
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.trial.checkpoints import StoredCheckpoints
from lotus_ray.trial.row import failure, new_row


def run_group_trial(work_order: WorkOrder, train: Callable[[], None]) -> None:
    """Train a group until each of its missing cells has a row.

    Args:
        work_order: the group.
        train: starts workers and runs the group's missing cells on them.

    Raises:
        StoreError: the store cannot be read or written.
        ClusterError: the workers died too often before they began a cell.
    """
    store = Store.open(work_order.store)
    history = _History(work_order, store)
    while missing := _missing(work_order, store):
        begun = {cell.cell_id: store.attempts(cell.cell_id) for cell in missing}
        try:
            train()
        except ray.train.TrainingFailedError as error:
            raise_store_error(error)
            left = _missing(work_order, store)
            ran = next((c for c in left if store.attempts(c.cell_id) > begun[c.cell_id]), None)
            death = history.add(ran, left != missing)
            decision = decide(death)
            if decision is Decision.FAIL_GROUP:
                count = death.idle_deaths + 1
                died = f"the workers of {work_order.group.name} died before they began a cell"
                raise explain(first_failure(error), f"{died}, {count} times") from error
            if decision is Decision.FAIL_CELL and ran is not None:
                _fail(work_order, store, ran, first_failure(error))


class _History:
    """The deaths of a group's workers, as seen in the store."""

    def __init__(self, work_order: WorkOrder, store: Store) -> None:
        self._work_order = work_order
        self._store = store
        cells = work_order.group.cells
        self._counted = {cell.cell_id: store.attempts(cell.cell_id) for cell in cells}
        self._checkpoints: dict[str, str | None] = {}  # etags at the last death, by cell id
        self._idle_deaths = 0

    def add(self, ran: Cell | None, committed: bool) -> Death:
        """Return the facts of a death, and remember it.

        Args:
            ran: the cell that had begun and has no row.
            committed: True if a row was committed since the workers started.
        """
        if ran is None:
            death = Death(False, committed, idle_deaths=self._idle_deaths)
        else:
            death = self._of_cell(ran, committed)
        self._idle_deaths = self._idle_deaths + 1 if is_idle(death) else 0
        return death

    def _of_cell(self, cell: Cell, committed: bool) -> Death:
        """Return the facts of a death while a cell ran, and remember its checkpoint."""
        store, cell_id = self._store, cell.cell_id
        attempts = store.attempts(cell_id) - self._counted[cell_id]
        row_version = self._work_order.row_versions[cell_id]
        checkpoint = store.etag(StoredCheckpoints.file_name(cell_id, row_version))
        came_further = checkpoint != self._checkpoints.get(cell_id)
        if came_further:
            self._checkpoints[cell_id] = checkpoint
            self._counted[cell_id] += attempts
        had = store.resources_by_attempt(cell_id)[-attempts:] if attempts else []
        grown = sum(later["workers"] > earlier["workers"] for earlier, later in pairwise(had))
        return Death(True, committed, came_further, attempts, grown)


def _missing(work_order: WorkOrder, store: Store) -> list[Cell]:
    cells = work_order.group.cells
    return [cell for cell in cells if not work_order.is_settled(cell, store)]


def _fail(work_order: WorkOrder, store: Store, cell: Cell, cause: Exception) -> None:
    """Commit a failed row of a cell whose workers died too often."""
    attempt = store.attempt(cell.cell_id, work_order.row_versions[cell.cell_id])
    store.commit(attempt, new_row(work_order.group, cell, **failure(cause)), {})
    store.remove_all(StoredCheckpoints.folder(cell.cell_id))
