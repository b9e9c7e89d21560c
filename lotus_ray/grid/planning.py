"""Plan a grid: check everything first, then write to a new store."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lotus_ray.base.plugins import stored_name
from lotus_ray.data.prepared.embedded import embedded_folder, keep
from lotus_ray.grid.missing import missing
from lotus_ray.grid.options import Options
from lotus_ray.grid.outcome import Stages
from lotus_ray.job.cost import cell_costs
from lotus_ray.job.datasets import locate_data
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.networks import compare_costs, networks
from lotus_ray.job.plan import Plan, plan
from lotus_ray.job.plugins.used import used_by
from lotus_ray.job.rates import likely_device
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store


def plan_grid(
    loaded: LoadedJob, store: Store, options: Options, stages: Stages
) -> tuple[Plan, list[WorkOrder], dict[str, float]]:
    """Plan a job, and return its work orders, and the expected seconds of each missing cell.

    A new store is written after all checks. Until then, data that the grid makes itself are in a
    scratch folder.

    Args:
        loaded: the job.
        store: of the grid. It may not exist yet.
        options: of the command.
        stages: measures the seconds of data and planning.

    Raises:
        LotusRayError: the data, the networks or the store cannot be used.
    """
    is_new = not store.exists()
    if not is_new:
        store.check_writable()
    with tempfile.TemporaryDirectory() as scratch:
        existing = embedded_folder(store)
        with stages.measure("data"):
            manifests = locate_data(loaded, existing if existing.exists() else Path(scratch))
        with stages.measure("plan"):
            planned = plan(loaded, manifests, options.limit)
            work_orders = missing(planned, store, options, loaded.job.resources)
            costs = compare_costs(networks(work_order.group for work_order in work_orders))
        if is_new:
            store.check_writable()
        with stages.measure("data"):
            kept = keep(store, manifests, Path(scratch))
    folders = {
        before.directory.absolute(): after.directory.absolute()
        for before, after in zip(manifests, kept, strict=True)
    }
    with stages.measure("plan"):
        planned = planned.with_folders(folders)
        work_orders = _in_store(work_orders, planned, store)
        for name, roles in planned.roles.items():
            store.put(name, roles.to_parquet())
        for code in {plugin.code.digest: plugin.code for plugin in used_by(planned.cells)}.values():
            store.put(stored_name(code.digest), code.to_bytes())
        rows = {} if is_new else store.rows()
        device = likely_device(
            "cuda" if loaded.job.resources.gpus_per_worker else "cpu", rows.values()
        )
        expected = cell_costs(work_orders, planned.roles, costs, rows, device)
    return planned, work_orders, {cell_id: cost.seconds for cell_id, cost in expected.items()}


def _in_store(work_orders: Sequence[WorkOrder], planned: Plan, store: Store) -> list[WorkOrder]:
    """Return work orders with the current store id and folders of data, and their plug-ins."""
    groups = {group.original.cell_id: group for group in planned.groups}
    store_id = store.store_id() or ""
    return [
        replace(
            each,
            group=groups[each.group.original.cell_id],
            store_id=store_id,
            plugins=tuple(plugin.reference for plugin in used_by(each.group.cells)),
        )
        for each in work_orders
    ]
