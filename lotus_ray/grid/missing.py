"""Find the cells of a plan that have no row yet."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from lotus_ray.base.errors import ArtifactDamaged
from lotus_ray.data.pixels.cache_space import GIB, CacheSpace
from lotus_ray.grid.options import Options
from lotus_ray.job.job_fit import StepFits
from lotus_ray.job.plan import Plan
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

_log = logging.getLogger(__name__)


def cache_space_for(resources: Resources) -> CacheSpace:
    """Return the space of one command for decoded images on each node."""
    disk = resources.decoded_disk_gb
    return CacheSpace(
        memory_bytes=int(resources.decoded_memory_gb * GIB),
        disk_bytes=None if disk is None else int(disk * GIB),
        scratch=str(Path(resources.scratch or tempfile.gettempdir()).absolute()),
    )


def missing(planned: Plan, store: Store, options: Options, resources: Resources) -> list[WorkOrder]:
    """Return a work order for each group with cells to run: cells without a row, and retries.

    If a group has cells to run, and the artifacts of its original are damaged, the original runs
    again too.

    Args:
        planned: the plan.
        store: of the rows.
        options: of the command.
        resources: of the job.

    Raises:
        StoreError: the store cannot be read.
        JobError: a step does not fit in the memory that the job gives its GPUs.
    """
    rows, next_row_versions = store.rows(), store.next_row_versions()
    cache_space = cache_space_for(resources)
    precision = planned.groups[0].precision if planned.groups else ""  # the job's
    fits = StepFits(resources, precision)
    store_id = store.store_id() or ""
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
                    store_id,
                    resources.compile,
                    fits.part_of(group),
                    resources.micro_batch == "auto",
                )
            )
    return work_orders


def _is_damaged(store: Store, row: Row) -> bool:
    """Return True if a file of a good row is missing or changed.

    Raises:
        StoreError: the store cannot be read.
    """
    if not row.is_ok:
        return False
    try:
        for name in row.artifacts:
            store.artifact(row, name)
    except ArtifactDamaged as error:
        _log.warning(
            "the row of cell %s is ignored, and it runs again: %s: %s",
            row.cell_id,
            error.what,
            error.where,
        )
        return True
    return False


def _is_missing(row: Row | None, options: Options) -> bool:
    """Return True if a cell with this row must run."""
    if row is None or options.force:
        return True
    return not row.is_ok and options.retry_failed
