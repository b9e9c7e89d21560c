"""A grid whose lanes share GPUs, with lanes run in this process and GPUs that are made up."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from lotus_ray.cells import plan
from lotus_ray.cluster import grid
from lotus_ray.data.prepare import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.errors import GpuPartTooSmall
from lotus_ray.job import load_job
from lotus_ray.job_schema import Resources
from lotus_ray.store import Store
from lotus_ray.todo import Todo

JOB = Path(__file__).parent.parent.parent / "jobs" / "digits.yaml"
JOBS = ["grid.methods=[original, finetune, ssd]", "grid.seeds=[0, 1, 2, 3, 4]"]
SHARED = Resources(gpus_per_worker=1, share_gpus=True)
NEEDS = {"Original": 5, "Finetuning": 20, "SSD": 20}  # of 100 bytes of a GPU


class Workers:
    """Two GPUs of 100 bytes. A cell of a lane whose part is too small for it runs out of memory."""

    def __init__(self, store: Store, **needs: int) -> None:
        self.store = store
        self.needs = {**NEEDS, **needs}
        self.ran: list[tuple[int, str, float]] = []  # seed, method, GPUs
        self.at_once: list[int] = []

    def fit(self, todo: Todo, resources: Resources, scratch: str) -> None:
        for cell in todo.lane.cells:
            if todo.is_settled(cell, self.store):
                continue
            gpus = resources.gpus_per_worker
            self.ran.append((todo.lane.seed, cell.label, gpus))
            attempt = self.store.begin(cell.cell_id, todo.generations[cell.cell_id], {})
            if self.needs[cell.label] > 100 * gpus:
                raise GpuPartTooSmall("out of memory")
            held = {"peak_device_bytes": self.needs[cell.label], "device_bytes": 100}
            row = {"status": "ok", "method": cell.label, "resources": held}
            self.store.commit(attempt, row, {})

    def run(self, todos: list[Todo], resources: Resources, lanes: int, **_: Any) -> list[Exception]:
        self.at_once.append(lanes)
        for place in range(len(todos)):
            grid._lane_trial({"lane": place}, todos=todos, resources=resources, scratch="")
        return []


@pytest.fixture
def todos(tmp_path: Path) -> list[Todo]:
    manifest = prepare(SOURCES["digits"], tmp_path / "digits")
    planned = plan(load_job(JOB, JOBS), [manifest])
    store = Store.open(str(tmp_path / "store"))
    return [
        Todo(lane, {cell.cell_id: 0 for cell in lane.cells}, store.location)
        for lane in planned.lanes
    ]


def run(
    todos: list[Todo], resources: Resources, monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> tuple[int, list[str]]:
    """Run a grid on two GPUs; return how many lanes ran at once in the end, and what was said."""
    said: list[str] = []
    node = {"Alive": True, "Resources": {"CPU": 64.0, "GPU": 2.0}, "NodeID": "n"}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("lotus_ray.cluster.nodes.ray", SimpleNamespace(nodes=lambda: [node]))
    for name, stand_in in {
        "session": nullcontext,
        "check_every_node": lambda *_: None,
        "_clear": lambda _: None,
        "_run_trials": workers.run,
        "_fit": workers.fit,
    }.items():
        monkeypatch.setattr(grid, name, stand_in)
    lanes = grid.run_lanes(todos, resources, said.append, lambda: 0, lambda: None)
    return lanes, said


def test_first_cells_have_a_gpu_each_and_the_others_share(
    todos: list[Todo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 · 1.25 = 25 of 90 bytes: three lanes a GPU, and five lanes on two GPUs are so many."""
    workers = Workers(Store.open(todos[0].store))
    lanes, said = run(todos, SHARED, monkeypatch, workers)
    assert lanes == 6
    assert workers.at_once == [2, 6]
    assert workers.ran[:4] == [
        (seed, method, 1.0) for seed in (0, 1) for method in ("Original", "Finetuning")
    ]
    assert {gpus for *_, gpus in workers.ran[4:]} == {0.3333}
    assert Counter(method for _, method, _ in workers.ran) == dict.fromkeys(NEEDS, 5)
    assert all(row["attempts"] == 1 for row in workers.store.rows().values())
    assert said == [
        "first, cells of 2 of the lanes show how much of a GPU's memory one needs",
        "3 lanes share a GPU, whose memory holds 3",
    ]


def test_what_an_earlier_run_measured_is_not_measured_again(
    todos: list[Todo], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(Store.open(todos[0].store))
    run(todos, SHARED, monkeypatch, workers)
    workers.ran.clear()
    again = [Todo(todo.lane, {c.cell_id: 1 for c in todo.lane.cells}, todo.store) for todo in todos]
    run(again, SHARED, monkeypatch, workers)
    assert workers.at_once == [2, 6, 6]
    assert {gpus for *_, gpus in workers.ran} == {0.3333}


def test_a_cell_that_needs_more_than_its_part_runs_on_a_whole_gpu(
    todos: list[Todo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSD takes half of a GPU where Finetuning took a fifth: no row of it says "oom"."""
    workers = Workers(Store.open(todos[0].store), SSD=50)
    run(todos, SHARED, monkeypatch, workers)
    rows = workers.store.rows().values()
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["attempts"] for row in rows if row["method"] == "SSD"} == {2}
    assert {row["attempts"] for row in rows if row["method"] != "SSD"} == {1}
    assert [gpus for _, method, gpus in workers.ran if method == "SSD"] == [0.3333, 1.0] * 5


def test_a_lane_that_fills_a_gpu_shares_none(
    todos: list[Todo], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(Store.open(todos[0].store), Finetuning=80)
    lanes, said = run(todos, SHARED, monkeypatch, workers)
    assert lanes == 2
    assert {gpus for *_, gpus in workers.ran} == {1.0}
    assert said[-1] == "a lane takes most of a GPU's memory: each has one of its own"


def test_lanes_that_have_a_gpu_each_share_none(
    todos: list[Todo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lanes on two GPUs; and five, of a job that does not ask to share."""
    workers = Workers(Store.open(todos[0].store))
    assert run(todos[:2], SHARED, monkeypatch, workers) == (2, [])
    assert run(todos, Resources(gpus_per_worker=1), monkeypatch, workers) == (2, [])
    assert {gpus for *_, gpus in workers.ran} == {1.0}
    assert workers.at_once == [2, 2]
