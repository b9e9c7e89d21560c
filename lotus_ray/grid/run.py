"""`lotus-ray grid`: job -> plan -> missing cells -> rows -> outcome."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lotus_ray.base.errors import LotusRayError, StoreError
from lotus_ray.data.pixels.cache_space import GIB
from lotus_ray.data.pixels.chunk_sets import chunk_sets_in_use
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Outcome, Stages
from lotus_ray.grid.planning import plan_grid
from lotus_ray.grid.status_files import OUTCOME
from lotus_ray.grid.watch import GridWatch
from lotus_ray.job.datasets import check_here
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.spans import Filling
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.trial.checkpoints import StoredCheckpoints

if TYPE_CHECKING:
    from lotus_ray.cluster.trials import Cluster

LOCAL_POLL_SECONDS, CLOUD_POLL_SECONDS = 0.25, 5.0  # each poll of a bucket costs requests


def run_grid(loaded: LoadedJob, store: Store, options: Options) -> Outcome:
    """Run every missing cell of a job.

    Args:
        loaded: the job.
        store: of the rows. It may not exist yet.
        options: of the command.

    Returns:
        The outcome. The store's outcome file says "running" until the command has printed it.

    Raises:
        LotusRayError: no cell could be started. Later failures are in the rows and the outcome.
    """
    check_store_stays(store)
    stages = Stages()
    resources = loaded.job.resources
    for dataset in loaded.job.grid.datasets:
        check_here(dataset)  # before Ray starts
    with ExitStack() as stack:
        runner = _Runner(resources, options.local, stack)
        if _is_new(store):
            runner.start()
        print("reading the data, and planning the cells", file=sys.stderr, flush=True)
        planned, work_orders, seconds = plan_grid(loaded, store, options, stages)
        if options.force:
            _remove_checkpoints(store, work_orders)
        for note in planned.notes:
            print(f"note: {note}", file=sys.stderr)
        to_run = {cell_id for work_order in work_orders for cell_id in work_order.row_versions}
        outcome = Outcome(store.address(OUTCOME), planned, {}, stages.seconds, to_run)
        outcome.job = loaded.name
        outcome.write(store, "running")
        try:
            if work_orders:
                runner.start()
                _run_missing(work_orders, seconds, store, runner, outcome)
        except KeyboardInterrupt as interrupt:
            _record_interruption(outcome, store)  # at once: reading the rows may take too long
            with suppress(StoreError):
                outcome.rows = _rows(store, outcome)
            _record_interruption(outcome, store)
            line = outcome.interrupted_line(store)
            print(line, file=sys.stderr)
            interrupt.add_note(line)  # the command need not say it again
            raise
        except Exception as error:
            outcome.error, outcome.error_code = str(error), getattr(error, "exit_code", 1)
            with suppress(StoreError):
                outcome.write(store)
            raise
        outcome.rows = _rows(store, outcome)
    return outcome


class _Runner:
    """What runs the cells: this process, or Ray, which takes seconds to start."""

    def __init__(self, resources: Resources, local: bool, stack: ExitStack) -> None:
        self.resources = resources
        self._local = local
        self._stack = stack
        self._cluster: Cluster | None = None

    def start(self) -> None:
        """Start Ray and its places, if they are needed and not there yet.

        Raises:
            ClusterError: Ray cannot be reached, started, or is too small.
        """
        if self._local or self._cluster is not None:
            return
        check_this_machine(self.resources)
        from lotus_ray.cluster.environment import first_line

        print(first_line(), file=sys.stderr, flush=True)  # before Ray is imported
        from lotus_ray.cluster import trials

        self._cluster = self._stack.enter_context(trials.cluster(self.resources))

    @property
    def has_nodes(self) -> bool:
        """True if the cells run on a cluster that was there before, which may have many nodes."""
        if self._cluster is None:
            return False
        from lotus_ray.cluster.environment import cluster_address

        return bool(cluster_address())

    def run(
        self,
        work_orders: list[WorkOrder],
        seconds: Mapping[str, float],
        watch: GridWatch,
        interrupted: Callable[[], None],
    ) -> Filling:
        """Run every missing cell, after `start`."""
        if self._cluster is None:
            from lotus_ray.grid.local import run_cells

            return run_cells(work_orders, self.resources, seconds, watch.say)
        return self._cluster.run(work_orders, seconds, watch.say, watch.cells_left, interrupted)


def _is_new(store: Store) -> bool:
    """Return True if a grid certainly has cells to run: the store has no row yet."""
    return not store.exists() or not store.next_row_versions()


def check_store_stays(store: Store) -> None:
    """Raise StoreError if Ray would delete the store with the job that writes it."""
    from lotus_ray.cluster import in_uploaded_folder

    if store.folder is None or not in_uploaded_folder():
        return
    if Path(store.location).resolve().is_relative_to(Path.cwd()):
        raise StoreError(
            "the store is in the job's copy of its working directory, which Ray deletes at the end",
            where=store.location,
            nearest="a folder that every node mounts",
            next_command="lotus-ray grid JOB.yaml --store /SHARED/FOLDER",
        )


def check_this_machine(resources: Resources) -> None:
    """Raise ClusterError if Ray would start here and this machine is too small for one trial."""
    from lotus_ray.cluster import capacity

    capacity.check_this_machine(resources)


def _remove_checkpoints(store: Store, work_orders: list[WorkOrder]) -> None:
    """Remove checkpoints of earlier forced runs, so that cells start from the beginning."""
    cell_ids = [cell_id for work_order in work_orders for cell_id in work_order.row_versions]
    existing = set(store.folders(StoredCheckpoints.root))
    for folder in existing.intersection(map(StoredCheckpoints.folder, cell_ids)):
        store.remove_all(folder)


def _record_interruption(outcome: Outcome, store: Store) -> None:
    """Write that a signal ended the command. A full disk must not hide the signal."""
    with suppress(StoreError):
        outcome.write(store, "interrupted")


def _rows(store: Store, outcome: Outcome) -> dict[str, Row]:
    rows = store.rows()
    return {cell_id: rows[cell_id] for cell_id in outcome.cell_ids if cell_id in rows}


def _run_missing(
    work_orders: list[WorkOrder],
    seconds: Mapping[str, float],
    store: Store,
    runner: _Runner,
    outcome: Outcome,
) -> None:
    """Run work orders, here or on Ray. Record in the outcome when cells ran, and where.

    Raises:
        LotusRayError: no cell could be started. A later error is recorded in the outcome.
    """
    poll_seconds = LOCAL_POLL_SECONDS if store.folder is not None else CLOUD_POLL_SECONDS
    watch = GridWatch(work_orders, store, sys.stderr, poll_seconds)
    start = time.time()
    with watch, _chunk_sets(work_orders, store, runner, watch):
        try:
            interrupted = partial(_record_interruption, outcome, store)
            outcome.filling = runner.run(work_orders, seconds, watch, interrupted)
        except LotusRayError as error:
            if watch.first_cell_after is None:
                raise
            outcome.error, outcome.error_code = str(error), error.exit_code
    whole = time.time() - start
    begin = outcome.filling.begin if outcome.filling else None
    until_first = begin - start if begin else watch.first_cell_after or whole
    until_first = min(max(until_first, 0.0), whole)  # a cell's clock may be another machine's
    outcome.stages |= {"start": until_first, "cells": whole - until_first}


def _chunk_sets(
    work_orders: list[WorkOrder], store: Store, runner: _Runner, watch: GridWatch
) -> AbstractContextManager[None]:
    """Return a context in which the store keeps the decoded images that nodes of the grid share."""
    keys = {work_order.chunks_key for work_order in work_orders} if runner.has_nodes else ()
    session = work_orders[0].cache_space.session
    most = int(runner.resources.decoded_store_gb * GIB)
    return chunk_sets_in_use(store, keys, session, most, watch.say)
