"""`lotus-ray grid`: job -> plan -> missing cells -> rows -> outcome."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from lotus_ray.base.errors import SOME_CELLS_FAILED, ArtifactDamaged, LotusRayError, StoreError
from lotus_ray.base.timestamps import utc_now
from lotus_ray.data.pixels.cache_space import GIB, CacheSpace
from lotus_ray.data.prepared.embedded import embedded_folder, share
from lotus_ray.grid.status import OUTCOME
from lotus_ray.grid.watch import Progress
from lotus_ray.job.cells import Cell, Plan, plan
from lotus_ray.job.cost import efficiency, longest_first
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.preview import check_here, check_models, locate_data, networks, preview
from lotus_ray.job.schema import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.report.labels import labels_of
from lotus_ray.store.results import OK, Row, Store
from lotus_ray.trial.checkpoints import StoredCheckpoints

LOCAL_POLL_SECONDS, CLOUD_POLL_SECONDS = 0.25, 5.0  # of a bucket, each look costs requests
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to run a grid."""

    local: bool = False
    limit: int | None = None
    retry_failed: bool = False
    force: bool = False


@dataclass
class Outcome:
    """What a grid came to.

    `address` is that of its file; `stages` are wall seconds of this command; `ran` are the cells
    that it ran, and `places` how many groups could run at once, None where none did.
    """

    address: str
    planned: Plan
    rows: dict[str, Row]
    stages: dict[str, float] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    places: int | None = None
    error: str | None = None
    error_code: int = 0
    begun_at: str = field(default_factory=utc_now)

    @property
    def cell_ids(self) -> list[str]:
        """Return the ids of all cells of the job."""
        return [cell.cell_id for cell in self.planned.cells]

    @property
    def labels(self) -> dict[str, dict[str, Any]]:
        """Return what this job calls each cell, which older rows may call otherwise."""
        return {cell.cell_id: group.labels for group in self.planned.groups for cell in group.cells}

    @property
    def cell_seconds(self) -> list[tuple[str, str, float]]:
        """Return id, name and seconds of each cell that this command ran."""
        return [
            (cell.cell_id, f"{cell.label}, {group.name}", sum(row["timing"].values()))
            for group in self.planned.groups
            for cell in group.cells
            if cell.cell_id in self.ran and (row := self.rows.get(cell.cell_id)) is not None
        ]

    @property
    def efficiency(self) -> float | None:
        """Return how well its cells filled the places where they ran, from Ray's start on."""
        if not self.places:
            return None
        seconds = sum(seconds for *_, seconds in self.cell_seconds)
        return efficiency(seconds, self.places, self.stages["start"] + self.stages["cells"])

    @property
    def done(self) -> int:
        """Return how many cells have a good row."""
        return sum(self._status(cell_id) == OK for cell_id in self.cell_ids)

    @property
    def failed(self) -> int:
        """Return how many cells have a row that says how they failed."""
        return sum(self._status(cell_id) not in (OK, None) for cell_id in self.cell_ids)

    @property
    def exit_code(self) -> int:
        """Return the command's exit code."""
        if self.error_code:
            return self.error_code
        return 0 if self.done == len(self.cell_ids) else SOME_CELLS_FAILED

    @property
    def packing_line(self) -> str:
        """Return how well the groups' time was filled; empty where no cell ran."""
        if self.efficiency is None:
            return ""
        return f"cells filled {self.efficiency:.0%} of {self.places} groups' time"

    @property
    def last_line(self) -> str:
        """Return the line that ends the command's output."""
        count = f"{self.done}/{len(self.cell_ids)} cells, {self.failed} failed"
        return f"DONE {count}: {self.address}"

    def to_json(self, state: str = "ended") -> str:
        """Return the store's outcome file: state is running, interrupted (by a signal) or ended.

        `exit_code` is null until the end.
        """
        content: dict[str, Any] = {
            "state": state,
            "begun_at": self.begun_at,
            "written_at": utc_now(),
            "exit_code": self.exit_code if state == "ended" else None,
            "cells": len(self.cell_ids),
            "done": self.done,
            "failed": self.failed,
            "stages_seconds": self.stages,
            "lanes_at_once": self.places,
            "efficiency": self.efficiency,
            "cells_seconds": [
                {"cell_id": cell_id, "name": name, "seconds": seconds}
                for cell_id, name, seconds in self.cell_seconds
            ],
            "planned": _named(self.planned),
            "error": self.error,
        }
        return json.dumps(content, indent=1) + "\n"

    def _status(self, cell_id: str) -> str | None:
        row = self.rows.get(cell_id)
        return None if row is None else str(row["status"])


def _named(planned: Plan) -> list[dict[str, Any]]:
    """Return what each cell is, and what a report that has all of them calls it."""
    cells = [
        {**group.labels, **_about(cell, group.seed)}
        for group in planned.groups
        for cell in group.cells
    ]
    specs = {cell.cell_id: cell.spec for cell in planned.cells}
    rows = {cell["cell_id"]: Row(**cell, spec=specs[cell["cell_id"]]) for cell in cells}
    names = labels_of(rows.values(), rows)
    return [{**cell, "label": names[cell["cell_id"]]} for cell in cells]


def _about(cell: Cell, seed: int) -> dict[str, Any]:
    return {"cell_id": cell.cell_id, "method": cell.label, "seed": seed}


class Stages:
    """Wall seconds of the stages of a command."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the duration of the block."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def check_this_machine(resources: Resources) -> None:
    """Raise ClusterError where Ray would start here and this machine is too small for one group."""
    from lotus_ray.cluster import session

    session.check_this_machine(resources)


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


def cache_space_for(resources: Resources) -> CacheSpace:
    """Return the room that one command has for decoded images on each node."""
    disk = resources.decoded_disk_gb
    return CacheSpace(
        memory_bytes=int(resources.decoded_memory_gb * GIB),
        disk_bytes=None if disk is None else int(disk * GIB),
        scratch=str(Path(resources.scratch or tempfile.gettempdir()).absolute()),
    )


def missing(planned: Plan, store: Store, options: Options, resources: Resources) -> list[WorkOrder]:
    """Return the groups with cells that have no row yet, or whose row is to be superseded.

    An original that such cells start from runs again where its artifacts are damaged.
    """
    rows, next_row_versions = store.rows(), store.next_row_versions()
    cache_space = cache_space_for(resources)
    mark = store.mark() or ""
    work_orders = []
    for group in planned.groups:
        row_versions = {
            cell.cell_id: next_row_versions[cell.cell_id]
            for cell in group.cells
            if _is_missing(rows.get(cell.cell_id), options)
        }
        if row_versions:
            original = group.original.cell_id
            if original not in row_versions and _is_damaged(store, rows[original]):
                row_versions = {original: next_row_versions[original], **row_versions}
            work_orders.append(
                WorkOrder(
                    group,
                    row_versions,
                    store.location,
                    resources.checkpoint_seconds,
                    cache_space,
                    resources.max_bad_images,
                    mark,
                    resources.compile,
                )
            )
    return work_orders


def run_grid(loaded: LoadedJob, store: Store, options: Options) -> Outcome:
    """Run every missing cell of a job.

    Returns:
        The outcome. The store's outcome file says "running" until it is printed.

    Raises:
        LotusRayError: nothing could be started. What fails later is in the rows and the outcome.
    """
    check_store_stays(store)
    stages = Stages()
    resources = loaded.job.resources
    if not store.exists():  # let everything that is wrong be said before anything is written
        if not options.local:
            check_this_machine(resources)
        for dataset in loaded.job.grid.datasets:
            check_here(dataset)
        preview(loaded, options.limit)
    store.check_writable()
    with stages.measure("data"):
        manifests = share(store, locate_data(loaded, embedded_folder(store)))
    with stages.measure("plan"):
        planned = plan(loaded, manifests, options.limit)
        work_orders = missing(planned, store, options, resources)
        work_orders = longest_first(
            work_orders,
            planned.roles,
            check_models(networks(work_order.group for work_order in work_orders)),
        )
        for name, roles in planned.roles.items():
            store.put(name, roles.to_parquet())
    if options.force:
        given_up = {
            StoredCheckpoints.folder(cell_id)
            for work_order in work_orders
            for cell_id in work_order.row_versions
        }
        for folder in given_up.intersection(store.folders(StoredCheckpoints.all_of_them)):
            store.remove_all(folder)  # of a forced run given up
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
        from lotus_ray.cluster import trials as grid

        run_groups = partial(
            grid.run_groups,
            say=progress.say,
            groups_left=progress.groups_left,
            interrupted=partial(_record_interruption, store, outcome),
        )
    start = time.perf_counter()
    with progress:
        try:
            outcome.places = run_groups(work_orders, resources)
        except LotusRayError as error:
            if progress.first_cell_after is None:
                raise
            outcome.error, outcome.error_code = str(error), error.exit_code
    groups = time.perf_counter() - start
    until_first = progress.first_cell_after or groups
    outcome.stages |= {"start": until_first, "cells": groups - until_first}


def _is_damaged(store: Store, row: Row) -> bool:
    """Return whether a good row names something that is gone or is not what was written.

    Raises:
        StoreError: the store refuses, or does not answer.
    """
    if row["status"] != OK:
        return False
    try:
        for name in row["artifacts"]:
            store.artifact(row, name)
    except ArtifactDamaged as error:
        _log.warning(
            "the row of cell %s is ignored, and it runs again: %s: %s",
            row["cell_id"],
            error.what,
            error.where,
        )
        return True
    return False


def _is_missing(row: Row | None, options: Options) -> bool:
    if row is None or options.force:
        return True
    return row["status"] != OK and options.retry_failed
