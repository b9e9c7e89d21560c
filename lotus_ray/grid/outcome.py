"""The outcome of a grid command."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lotus_ray.base.errors import SOME_CELLS_FAILED
from lotus_ray.base.timestamps import utc_now
from lotus_ray.grid.status_files import OutcomeFile, PlannedCell
from lotus_ray.job.plan import Plan
from lotus_ray.job.spans import Filling
from lotus_ray.report.labels import labels_of
from lotus_ray.store.origin import Origin
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row


@dataclass
class Outcome:
    """The outcome of a grid command: rows, times and error. `write` stores it."""

    address: str  # of the outcome file
    planned: Plan
    rows: dict[str, Row]  # by cell id
    stages: dict[str, float] = field(default_factory=dict)  # wall seconds of this command
    ran: set[str] = field(default_factory=set)  # ids of the cells that this command ran
    filling: Filling | None = None  # None if nothing ran
    error: str | None = None
    error_code: int = 0
    begun_at: str = field(default_factory=utc_now)
    job: str = ""  # its file's name, without the ending

    @property
    def cell_ids(self) -> list[str]:
        """The ids of all cells of the job."""
        return [cell.cell_id for cell in self.planned.cells]

    @property
    def labels(self) -> dict[str, dict[str, Any]]:
        """This job's labels of each cell. Older rows may have other labels."""
        return {cell.cell_id: group.labels for group in self.planned.groups for cell in group.cells}

    @property
    def cell_seconds(self) -> list[tuple[str, str, float]]:
        """Id, name and seconds of each cell that this command ran."""
        return [
            (cell.cell_id, f"{cell.label}, {group.name}", row.total_seconds)
            for group in self.planned.groups
            for cell in group.cells
            if cell.cell_id in self.ran and (row := self.rows.get(cell.cell_id)) is not None
        ]

    @property
    def efficiency(self) -> float | None:
        """How well the cells of this command filled its places: see `Filling`. None if none ran."""
        return self.filling.efficiency if self.filling else None

    @property
    def done(self) -> int:
        """Number of cells with a good row."""
        return sum(row.is_ok for row in self._rows_of_job())

    @property
    def failed(self) -> int:
        """Number of cells with the row of a failure."""
        return sum(not row.is_ok for row in self._rows_of_job())

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        if self.error_code:
            return self.error_code
        return 0 if self.done == len(self.cell_ids) else SOME_CELLS_FAILED

    @property
    def packing_line(self) -> str:
        """How well the cells filled the places, as a line; empty if no cell ran."""
        if self.efficiency is None:
            return ""
        assert self.filling is not None
        return (
            f"cells filled {self.efficiency:.0%} of {self.filling.places} places, "
            "from the first begin to the last end"
        )

    def interrupted_line(self, store: Store) -> str:
        """Return what is kept after a signal, and how to go on."""
        return (
            f"interrupted: {len(self.rows)} of {len(self.cell_ids)} cells are kept in {store.uri}, "
            "and cells that ran keep their last checkpoint. Run the same command to go on; "
            f"lotus-ray report {store.uri} shows what is kept"
        )

    @property
    def last_line(self) -> str:
        """The last line of the command's output."""
        count = f"{self.done}/{len(self.cell_ids)} cells, {self.failed} failed"
        return f"DONE {count}: {self.address}"

    @property
    def origin(self) -> Origin:
        """The job, and where its images are: what lets a report show some of them."""
        folders = {str(path): None for group in self.planned.groups for path in group.manifests}
        return Origin((self.job,) if self.job else (), tuple(folders))

    def write(self, store: Store, state: str = "ended") -> None:
        """Write the outcome file.

        Args:
            store: of the grid.
            state: running, interrupted (by a signal) or ended.

        Raises:
            StoreError: the store cannot be written.
        """
        OutcomeFile(
            state=state,
            begun_at=self.begun_at,
            written_at=utc_now(),
            exit_code=self.exit_code if state == "ended" else None,
            cells=len(self.cell_ids),
            done=self.done,
            failed=self.failed,
            stages_seconds=self.stages,
            trials_at_once=self.filling.places if self.filling else None,
            efficiency=self.efficiency,
            cells_seconds=[
                {"cell_id": cell_id, "name": name, "seconds": seconds}
                for cell_id, name, seconds in self.cell_seconds
            ],
            planned=_planned_cells(self.planned),
            error=self.error,
        ).write(store)

    def _rows_of_job(self) -> list[Row]:
        return [self.rows[cell_id] for cell_id in self.cell_ids if cell_id in self.rows]


def _planned_cells(planned: Plan) -> list[PlannedCell]:
    """Return each planned cell, with its label in a full report."""
    rows = {
        cell.cell_id: Row(
            cell_id=cell.cell_id,
            method=cell.label,
            seed=group.seed,
            spec=cell.spec,
            **group.labels,
        )
        for group in planned.groups
        for cell in group.cells
    }
    labels = labels_of(rows.values(), rows)
    cells = [PlannedCell.of_row(row) for row in rows.values()]
    return [replace(cell, label=labels[cell.cell_id]) for cell in cells]


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
