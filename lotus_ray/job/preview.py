"""Check a job before it runs: list its cells, its errors, and the data that are absent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lotus_ray.base.errors import DataError
from lotus_ray.data.prepared.manifest import Manifest
from lotus_ray.job.cells import Cell, CellGroup
from lotus_ray.job.datasets import absent_folder, check_here, locate_data
from lotus_ray.job.load import LoadedJob
from lotus_ray.job.networks import Network, check_networks, networks
from lotus_ray.job.plan import Plan, plan
from lotus_ray.job.schema.dataset import DatasetJob
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.row import Row


@dataclass(frozen=True)
class Preview:
    """The plan of the data sets that are here, and the job with the data sets that are not."""

    planned: Plan
    absent: LoadedJob
    manifests: Mapping[Path, Manifest]  # of the data sets that are here, by folder

    @property
    def absent_cells(self) -> list[str]:
        """One line for each cell that has no id yet, because its data are not here."""
        grid = self.absent.job.grid
        return [
            f"{method.title:13} {dataset.name} {model.label or model.name} seed {seed}, "
            f"{dataset.setting_name}"
            for dataset in grid.datasets
            for seed in dict.fromkeys(grid.seeds)
            for model, methods in zip(grid.models, self.absent.methods, strict=True)
            for method in methods
        ]

    @property
    def absent_notes(self) -> list[str]:
        """One line for each data set that is not here, with the command that prepares it."""
        notes = []
        for dataset in self.absent.job.grid.datasets:
            try:
                check_here(dataset)
            except DataError as error:
                notes.append(f"{error.what}: {error.where}; {error.next_command}")
        return list(dict.fromkeys(notes))

    def lines(self, work_orders: Sequence[WorkOrder], rows: Mapping[str, Row]) -> list[str]:
        """Return one line per cell for `--dry-run`: missing, the status of its row, or no data.

        Args:
            work_orders: with the missing cells.
            rows: of the store, by cell id.
        """
        planned = [
            f"{cell.cell_id}  {status:9}{cell.label:13} {group.name}, {group.setting}"
            for group, cell, status in self._statuses(work_orders, rows)
        ]
        return planned + [f"{'?':20}  {'no data':9}{cell}" for cell in self.absent_cells]

    def to_json(
        self, work_orders: Sequence[WorkOrder], rows: Mapping[str, Row]
    ) -> list[dict[str, Any]]:
        """Return id, status and names of each cell that has an id; arguments as for `lines`."""
        return [
            {"cell_id": cell.cell_id, "status": status, "method": cell.label, "seed": group.seed}
            | group.labels
            for group, cell, status in self._statuses(work_orders, rows)
        ]

    def _statuses(
        self, work_orders: Sequence[WorkOrder], rows: Mapping[str, Row]
    ) -> Iterator[tuple[CellGroup, Cell, str]]:
        """Yield each cell with its group and its status: missing, or that of its row."""
        missing = {cell_id for work_order in work_orders for cell_id in work_order.row_versions}
        for group in self.planned.groups:
            for cell in group.cells:
                is_missing = cell.cell_id in missing
                yield group, cell, "missing" if is_missing else rows[cell.cell_id].status


def preview(loaded: LoadedJob, limit: int | None = None) -> Preview:
    """Plan a job and build its networks once. No file remains.

    Data sets that are here are checked. Others are left out of the plan.

    Args:
        loaded: the job.
        limit: as for `plan`.

    Raises:
        LotusRayError: the job cannot run.
    """
    datasets = loaded.job.grid.datasets
    here = _with_datasets(loaded, [d for d in datasets if absent_folder(d) is None])
    absent = _with_datasets(loaded, [d for d in datasets if absent_folder(d) is not None])
    with tempfile.TemporaryDirectory() as scratch:
        manifests = locate_data(here, Path(scratch))
        planned = plan(here, manifests, limit)
    check_networks(networks(planned.groups))
    check_networks(
        Network(
            model.spec(dataset.num_classes or 2, absent.job.offline),
            model.initial_checkpoint if dataset.num_classes else None,
            dataset.img_size,
            model.checkpoint_key,
        )
        for dataset in absent.job.grid.datasets
        for model in absent.job.grid.models
    )
    folders = {manifest.directory.absolute(): manifest for manifest in manifests}
    return Preview(planned, absent, folders)


def _with_datasets(loaded: LoadedJob, datasets: list[DatasetJob]) -> LoadedJob:
    grid = loaded.job.grid.model_copy(update={"datasets": datasets})
    return replace(loaded, job=loaded.job.model_copy(update={"grid": grid}))
