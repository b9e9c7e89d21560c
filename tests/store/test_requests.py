"""How often a store is asked: by lists that do not grow with its cells, and reads that are few."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lotus_ray.grid.missing import missing
from lotus_ray.grid.options import Options
from lotus_ray.grid.status_files import OUTCOME
from lotus_ray.grid.status_reader import status
from lotus_ray.grid.watch import GridWatch
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.report.collect import collect
from lotus_ray.store.objects import Objects
from lotus_ray.store.results import Store
from tests.cloud import Google, log_in
from tests.stores import commit

SEEDS = 50
METHODS = ("original", "gold", "finetune", "lotus")
CELLS = SEEDS * len(METHODS)
LISTS = ("names", "folders")


class Counted:
    """Counts the calls to objects, and how many of them run at once."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._lock = objects, threading.Lock()
        self.calls: Counter[str] = Counter()
        self._now = self.at_once = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._objects, name)
        if not callable(call):
            return call

        def counted(*arguments: Any) -> Any:
            with self._lock:
                self.calls[name] += 1
                self._now += 1
                self.at_once = max(self.at_once, self._now)
            try:
                return call(*arguments)
            finally:
                with self._lock:
                    self._now -= 1

        return counted

    @property
    def lists(self) -> int:
        return sum(self.calls[name] for name in LISTS)

    @property
    def others(self) -> int:
        return sum(self.calls.values()) - self.lists


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which every cell has a row, and comparisons are kept."""
    folder = tmp_path_factory.mktemp("full") / "store"
    store = Store.open(str(folder))
    store.check_writable()
    for number in range(CELLS):
        part = number / CELLS
        commit(store, METHODS[number % 4], number // 4, [[part, 1 - part]])
    collect(store)
    return folder


@pytest.fixture
def counted(full: Path) -> tuple[Store, Counted]:
    store = Store.open(str(full))
    objects = Counted(store.objects)
    store.objects = objects  # type: ignore[assignment]
    return store, objects


def groups_of(store: Store) -> Any:
    """Return a plan: a group a seed, of the cells that a store has."""
    groups: dict[int, list[Any]] = {}
    for cell_id, row in store.rows().items():
        groups.setdefault(row.seed, []).append(SimpleNamespace(cell_id=cell_id, label="x"))
    return SimpleNamespace(
        groups=[
            SimpleNamespace(cells=cells, original=cells[0], name=f"seed {seed}", precision="fp32")
            for seed, cells in groups.items()
        ]
    )


def opened(planned: Any, store: Store, **options: bool) -> list[WorkOrder]:
    """Do what a grid does before it runs anything."""
    work_orders = missing(planned, store, Options(**options), Resources())
    GridWatch(work_orders, store, io.StringIO(), 60)
    return work_orders


def test_a_grid_that_has_all_its_rows_is_opened_by_a_few_lists(
    full: Path, counted: tuple[Store, Counted]
) -> None:
    store, objects = counted
    assert opened(groups_of(Store.open(str(full))), store) == []
    assert objects.lists <= 3
    assert objects.others <= CELLS + 1
    assert 1 < objects.at_once <= 16


def test_a_grid_that_lacks_all_its_rows_asks_no_more_for_it(
    full: Path, counted: tuple[Store, Counted], tmp_path: Path
) -> None:
    """In an empty store, and where all run again: then of the row version after that of the row."""
    planned = groups_of(Store.open(str(full)))
    store, objects = counted
    again = opened(planned, store, force=True)
    assert [set(work_order.row_versions.values()) for work_order in again] == [{1}] * SEEDS
    assert objects.lists <= 3
    empty = Store.open(str(tmp_path))
    empty.objects = nothing = Counted(empty.objects)  # type: ignore[assignment]
    new = opened(planned, empty)
    assert [set(work_order.row_versions.values()) for work_order in new] == [{0}] * SEEDS
    assert (nothing.lists, nothing.others) == (3, 1)


def test_many_groups_are_watched_by_two_lists(full: Path, tmp_path: Path) -> None:
    """What happens to a cell is told: begun, then done."""
    store = Store.open(str(shutil.copytree(full, tmp_path / "store")))
    planned = groups_of(store)
    work_orders = missing(planned, store, Options(force=True), Resources())
    stream = io.StringIO()
    watch = GridWatch(work_orders, store, stream, 60)
    store.objects = objects = Counted(store.objects)  # type: ignore[assignment]
    watch.look()
    assert (objects.lists, objects.others, stream.getvalue()) == (2, 0, "")
    ids = [work_orders[7].group.cells[0].cell_id, work_orders[9].group.cells[0].cell_id]
    tries = [store.begin(cell_id, 1, {}) for cell_id in ids]
    watch.look()
    for attempt in tries:
        store.commit(attempt, replace(store.rows()[attempt.cell_id], status="ok"), {})
    objects.calls.clear()
    watch.look()
    assert objects.lists <= 2 + 5 * len(tries)
    told = [line.split(" s  ")[1].split(";")[0] for line in stream.getvalue().splitlines()]
    names = [work_orders[7].group.name, work_orders[9].group.name]
    states = [f"x, {name}: {state}" for state in ("running", "done") for name in names]
    assert told == states


def test_a_report_reads_each_row_and_each_comparison_once(counted: tuple[Store, Counted]) -> None:
    store, objects = counted
    assert sum(len(entry.rows) for entry in collect(store)) == CELLS
    assert objects.lists == 1
    assert objects.others <= 2 * CELLS + 2 * SEEDS  # the images of each role, and their table
    assert 1 < objects.at_once <= 16


def test_a_status_reads_each_row_once(counted: tuple[Store, Counted]) -> None:
    store, objects = counted
    assert status(store).count("done") == CELLS
    assert objects.lists == 2
    assert objects.others <= CELLS + 3
    assert 1 < objects.at_once <= 16


def test_a_status_of_cells_cut_off_reads_each_marker_once(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    store.check_writable()
    about = {"benchmark": "b", "model": "m", "setting": "s", "seed": 1, "method": "x"}
    planned = [{"cell_id": f"c{number}", **about} for number in range(CELLS)]
    for entry in planned:
        store.begin(str(entry["cell_id"]), 0, {})
    store.replace(OUTCOME, json.dumps({"state": "running", "planned": planned}).encode())
    store.objects = objects = Counted(store.objects)  # type: ignore[assignment]
    assert status(store).count("running") == CELLS
    assert objects.lists == 2
    assert objects.others <= CELLS + 3
    assert 1 < objects.at_once <= 16


class Listed(Google):
    """Counts the requests that reach a server."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        self.asked["LIST" if "prefix=" in path else method] += 1
        return super().answer(method, path, headers, body)


def test_a_server_is_asked_as_often(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers give 1,000 names to a list, and this stand-in all of them."""
    pytest.importorskip("obstore")
    log_in(monkeypatch)
    local, server = Store.open(str(full)), Listed()
    with server.running() as place:
        for name in local.objects.names(""):
            server._keep(f"runs/{name}", local.objects.read(name))
        store = Store.open(f"gs://bucket/runs?scheme=http&endpoint_override={place}")
        assert opened(groups_of(local), store) == []
        assert server.asked["LIST"] <= 3
        assert server.asked.total() <= CELLS + 5
        server.asked.clear()
        status(store)
        collect(store)
        assert server.asked["LIST"] <= 3
        assert server.asked.total() <= 3 * CELLS + 2 * SEEDS + 10
