"""`lotus-ray grid`: job -> plan -> missing cells -> rows -> outcome."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lotus_ray.cells import Lane, Plan, plan
from lotus_ray.data import shards
from lotus_ray.data.shards import Manifest
from lotus_ray.data.sources import SOURCES
from lotus_ray.errors import SOME_CELLS_FAILED, LotusRayError
from lotus_ray.job import LoadedJob, Resources
from lotus_ray.lane import Todo
from lotus_ray.models import build
from lotus_ray.progress import Progress
from lotus_ray.store import OK, Row, Store

OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Options:
    """How to run a grid."""

    local: bool = False
    limit: int | None = None
    retry_failed: bool = False
    force: bool = False


@dataclass
class Outcome:
    """What a grid came to. `stages` are wall seconds of this command, `cells` of each cell."""

    store: str
    cell_ids: list[str]
    rows: dict[str, Row]
    stages: dict[str, float] = field(default_factory=dict)
    cell_seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    error_code: int = 0

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
    def last_line(self) -> str:
        """Return the line that ends the command's output."""
        place = f"{self.store}/{OUTCOME}"
        return f"DONE {self.done}/{len(self.cell_ids)} cells, {self.failed} failed: {place}"

    def to_json(self) -> str:
        """Return the content of the store's outcome file."""
        content: dict[str, Any] = {
            "exit_code": self.exit_code,
            "cells": len(self.cell_ids),
            "done": self.done,
            "failed": self.failed,
            "stages_seconds": self.stages,
            "cells_seconds": self.cell_seconds,
            "error": self.error,
        }
        return json.dumps(content, indent=1) + "\n"

    def _status(self, cell_id: str) -> str | None:
        row = self.rows.get(cell_id)
        return None if row is None else str(row["status"])


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


def locate_data(loaded: LoadedJob, embedded: Path) -> dict[str, Manifest]:
    """Return the manifest of every data set of a job; embedded ones are prepared below a folder.

    Raises:
        DataError: a data set is missing or damaged.
    """
    manifests = {}
    for dataset in loaded.job.grid.datasets:
        if dataset.source is not None:
            manifest = shards.prepare(SOURCES[dataset.source], embedded / dataset.source)
        else:
            manifest = shards.verify(shards.read_manifest(Path(dataset.manifest or "")))
        manifests[dataset.name] = manifest
    return manifests


def preview(loaded: LoadedJob, limit: int | None = None) -> Plan:
    """Plan a job and build its models once, without writing anything that stays.

    Raises:
        LotusRayError: anything that can be known to be wrong before running.
    """
    with tempfile.TemporaryDirectory() as scratch:
        planned = plan(loaded, locate_data(loaded, Path(scratch)), limit)
    check_models(planned.lanes)
    return planned


def check_models(lanes: Iterable[Lane]) -> None:
    """Build every network of some lanes once, without weights; raises JobError."""
    for spec in {json.dumps(vars(lane.model)): lane.model for lane in lanes}.values():
        with torch.device("meta"):
            build(replace(spec, pretrained=False), "check")


def check_this_machine(resources: Resources) -> None:
    """Raise ClusterError where Ray would start here and this machine is too small for one lane."""
    from lotus_ray.cluster import session

    session.check_this_machine(resources)


def missing(planned: Plan, store: Store, options: Options) -> list[Todo]:
    """Return the lanes with cells that have no row yet, or whose row is to be superseded."""
    rows = store.rows()
    todos = []
    for lane in planned.lanes:
        generations = {
            cell.cell_id: store.next_generation(cell.cell_id)
            for cell in lane.cells
            if _is_missing(rows.get(cell.cell_id), options)
        }
        if generations:
            todos.append(Todo(lane, generations, store.location))
    return todos


def run_grid(loaded: LoadedJob, store: Store, options: Options) -> Outcome:
    """Run every missing cell of a job.

    Returns:
        The outcome; it is also written to the store.

    Raises:
        LotusRayError: nothing could be started. What fails later is in the rows and the outcome.
    """
    stages = Stages()
    resources = loaded.job.resources
    embedded = Path(store.location) / "data"
    if not options.local and not embedded.exists():
        check_this_machine(resources)  # before anything is written
    store.check_writable()
    with stages.measure("data"):
        manifests = locate_data(loaded, embedded)
    with stages.measure("plan"):
        planned = plan(loaded, manifests, options.limit)
        todos = missing(planned, store, options)
        check_models(todo.lane for todo in todos)
        for name, roles in planned.roles.items():
            store.put(name, roles.to_parquet())
    outcome = Outcome(store.uri, [cell.cell_id for cell in planned.cells], {}, stages.seconds)
    if todos:
        _run_missing(todos, resources, store, options, outcome)
    rows = store.rows()
    outcome.rows = {cell_id: rows[cell_id] for cell_id in outcome.cell_ids if cell_id in rows}
    outcome.cell_seconds = {
        f"{cell.label}, {todo.lane.name}": sum(outcome.rows[cell.cell_id]["timing"].values())
        for todo in todos
        for cell in todo.lane.cells
        if cell.cell_id in todo.generations and cell.cell_id in outcome.rows
    }
    return outcome


def _run_missing(
    todos: list[Todo], resources: Resources, store: Store, options: Options, outcome: Outcome
) -> None:
    if options.local:
        from lotus_ray.local import run_lanes
    else:
        check_this_machine(resources)
        from lotus_ray.cluster.grid import run_lanes
    start = time.perf_counter()
    with Progress(todos, store, sys.stderr) as progress:
        try:
            run_lanes(todos, resources)
        except LotusRayError as error:
            if progress.first_cell_after is None:
                raise
            outcome.error, outcome.error_code = str(error), error.exit_code
    lanes = time.perf_counter() - start
    until_first = progress.first_cell_after or lanes
    outcome.stages |= {"start": until_first, "cells": lanes - until_first}


def _is_missing(row: Row | None, options: Options) -> bool:
    if row is None or options.force:
        return True
    return row["status"] != OK and options.retry_failed


def describe(lanes: Sequence[Lane], todos: Sequence[Todo]) -> list[str]:
    """Return one line a cell, for `--dry-run`."""
    generations = {cell_id for todo in todos for cell_id in todo.generations}
    return [
        f"{cell.cell_id}  {'missing' if cell.cell_id in generations else 'done':8}"
        f"{cell.label:14}{lane.name}, {lane.setting}"
        for lane in lanes
        for cell in lane.cells
    ]
