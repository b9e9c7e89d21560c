"""`lotus-ray grid`: job -> plan -> missing cells -> rows -> outcome."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from lotus_ray.base.errors import LotusRayError, StoreError
from lotus_ray.data.prepared.embedded import embedded_folder, keep
from lotus_ray.grid.missing import missing
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Outcome, Stages
from lotus_ray.grid.status_files import OUTCOME
from lotus_ray.grid.watch import Progress
from lotus_ray.job.cost import longest_first
from lotus_ray.job.datasets import check_here, locate_data
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.networks import compare_costs, networks
from lotus_ray.job.plan import Plan, plan
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.trial.checkpoints import StoredCheckpoints

LOCAL_POLL_SECONDS, CLOUD_POLL_SECONDS = 0.25, 5.0  # of a bucket, each look costs requests


def check_this_machine(resources: Resources) -> None:
    """Raise ClusterError where Ray would start here and this machine is too small for one group."""
    from lotus_ray.cluster import capacity

    capacity.check_this_machine(resources)


def check_store_stays(store: Store) -> None:
    """Raise StoreError where the store would go away with the job that writes it."""
    from lotus_ray.cluster import in_uploaded_folder

    if store.folder is None or not in_uploaded_folder():
        return
    if Path(store.location).resolve().is_relative_to(Path.cwd()):
        raise StoreError(
            "the store lies in the job's copy of its working directory, which goes with the job",
            where=store.location,
            nearest="a folder that every node mounts",
            next_command="lotus-ray grid JOB.yaml --store /SHARED/FOLDER",
        )


def run_grid(loaded: LoadedJob, store: Store, options: Options) -> Outcome:
    """Run every missing cell of a job.

    Returns:
        The outcome. The store's outcome file says "running" until the command has printed it.

    Raises:
        LotusRayError: nothing could be started. Later failures are in the rows and the outcome.
    """
    check_store_stays(store)
    stages = Stages()
    resources = loaded.job.resources
    if not store.exists() and not options.local:
        check_this_machine(resources)
    planned, work_orders = _plan(loaded, store, options, stages)
    if options.force:
        _remove_checkpoints(store, work_orders)
    for note in planned.notes:
        print(f"note: {note}", file=sys.stderr)
    to_run = {cell_id for work_order in work_orders for cell_id in work_order.row_versions}
    outcome = Outcome(store.address(OUTCOME), planned, {}, stages.seconds, to_run)
    store.replace(OUTCOME, outcome.to_json(state="running").encode())
    try:
        if work_orders:
            _run_missing(work_orders, resources, store, options, outcome)
    except KeyboardInterrupt:
        with suppress(StoreError):
            _record_interruption(store, outcome)
            outcome.rows = _rows(store, outcome)
            _record_interruption(store, outcome)
        raise
    except Exception as error:
        outcome.error, outcome.error_code = str(error), getattr(error, "exit_code", 1)
        with suppress(StoreError):
            store.replace(OUTCOME, outcome.to_json().encode())
        raise
    outcome.rows = _rows(store, outcome)
    return outcome


def _plan(
    loaded: LoadedJob, store: Store, options: Options, stages: Stages
) -> tuple[Plan, list[WorkOrder]]:
    """Plan a job once, and return its work orders, longest first.

    Everything that can be wrong is said before a new store is written. So the data that a grid
    makes itself are first made in a scratch folder, and moved when all else is right.
    """
    for dataset in loaded.job.grid.datasets:
        check_here(dataset)
    is_new = not store.exists()
    if not is_new:
        store.check_writable()
    with tempfile.TemporaryDirectory() as scratch:
        there = embedded_folder(store)
        embedded = there if there.exists() else Path(scratch)
        with stages.measure("data"):
            manifests = locate_data(loaded, embedded)
        with stages.measure("plan"):
            planned = plan(loaded, manifests, options.limit)
            costs = compare_costs(networks(planned.groups)) if is_new else []
        if is_new:
            store.check_writable()
        with stages.measure("data"):
            kept = keep(store, manifests, Path(scratch))
            planned = planned.with_folders(
                {
                    before.directory.absolute(): after.directory.absolute()
                    for before, after in zip(manifests, kept, strict=True)
                }
            )
    with stages.measure("plan"):
        work_orders = missing(planned, store, options, loaded.job.resources)
        if not is_new:
            costs = compare_costs(networks(work_order.group for work_order in work_orders))
        for name, roles in planned.roles.items():
            store.put(name, roles.to_parquet())
    return planned, longest_first(work_orders, planned.roles, costs)


def _remove_checkpoints(store: Store, work_orders: list[WorkOrder]) -> None:
    """Remove the checkpoints of cells that run again: they are of a forced run given up."""
    cell_ids = [cell_id for work_order in work_orders for cell_id in work_order.row_versions]
    there = set(store.folders(StoredCheckpoints.all_of_them))
    for folder in there.intersection(map(StoredCheckpoints.folder, cell_ids)):
        store.remove_all(folder)


def _rows(store: Store, outcome: Outcome) -> dict[str, Row]:
    rows = store.rows()
    return {cell_id: rows[cell_id] for cell_id in outcome.cell_ids if cell_id in rows}


def _record_interruption(store: Store, outcome: Outcome) -> None:
    store.replace(OUTCOME, outcome.to_json(state="interrupted").encode())


def _run_missing(
    work_orders: list[WorkOrder],
    resources: Resources,
    store: Store,
    options: Options,
    outcome: Outcome,
) -> None:
    run_groups: Callable[[list[WorkOrder], Resources], int]
    poll_seconds = LOCAL_POLL_SECONDS if store.folder is not None else CLOUD_POLL_SECONDS
    progress = Progress(work_orders, store, sys.stderr, poll_seconds)
    if options.local:
        from lotus_ray.grid.local import run_groups
    else:
        check_this_machine(resources)
        from lotus_ray.cluster import trials

        run_groups = partial(
            trials.run_groups,
            say=progress.say,
            groups_left=progress.groups_left,
            interrupted=partial(_record_interruption, store, outcome),
        )
    start = time.perf_counter()
    with progress:
        try:
            outcome.trials_at_once = run_groups(work_orders, resources)
        except LotusRayError as error:
            if progress.first_cell_after is None:
                raise
            outcome.error, outcome.error_code = str(error), error.exit_code
    groups = time.perf_counter() - start
    until_first = progress.first_cell_after or groups
    outcome.stages |= {"start": until_first, "cells": groups - until_first}
