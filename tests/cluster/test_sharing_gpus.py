"""A grid whose lanes share GPUs, with lanes run in this process and GPUs that are made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

from lotus_ray.base.errors import GpuPartTooSmall
from lotus_ray.base.memory import CONTEXT_BYTES
from lotus_ray.cluster import trials as grid
from lotus_ray.cluster import worker
from lotus_ray.cluster.autoscaler import LANE_DRIVER_BYTES
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.job.cells import Plan, plan
from lotus_ray.job.load import load_job
from lotus_ray.job.schema import Resources
from lotus_ray.job.work_order import Todo
from lotus_ray.store.results import Store
from lotus_ray.unlearning.problem import Workers as Alone

JOB = Path(__file__).parent.parent.parent / "jobs" / "digits.yaml"
SETTINGS = ["grid.methods=[original, gold, finetune, ssd]", "grid.seeds=[0, 1, 2, 3, 4]"]
SHARED = Resources(gpus_per_worker=1, share_gpus=True)
NEEDS = {"Original": 5, "Gold Std": 20, "Finetuning": 20, "SSD": 20}  # of a GPU's 100 units
UNIT = 20 * CONTEXT_BYTES


class Workers:
    """GPUs of 100 units. A cell of a lane whose part is too small for it runs out of memory."""

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
            need = self.needs[cell.label]
            if need > 100 * gpus:
                raise GpuPartTooSmall("out of memory")
            held = {"workers": 1, "peak_device_bytes": need * UNIT, "device_bytes": 100 * UNIT}
            row = {"status": "ok", "method": cell.label, "resources": held}
            self.store.commit(attempt, row, {})

    def run(self, todos: list[Todo], resources: Resources, lanes: int, **_: Any) -> list[Exception]:
        self.at_once.append(lanes)
        errors: list[Exception] = []
        for place in range(len(todos)):
            try:
                grid._lane_trial({"lane": place}, todos=todos, resources=resources, scratch="")
            except Exception as error:
                errors.append(RuntimeError("a trial ended"))
                errors[-1].__cause__ = error
        return errors

    def gpus(self, *methods: str) -> set[float]:
        """Return which parts of a GPU cells had."""
        return {gpus for _, method, gpus in self.ran if method in methods}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    manifest = prepare(SOURCES["digits"], tmp_path_factory.mktemp("data") / "digits")
    return plan(load_job(JOB, SETTINGS), [manifest])


@pytest.fixture
def todos(planned: Plan, tmp_path: Path) -> list[Todo]:
    store = Store.open(str(tmp_path / "store"))
    return [
        Todo(lane, {cell.cell_id: 0 for cell in lane.cells}, store.location)
        for lane in planned.lanes
    ]


@pytest.fixture
def workers(todos: list[Todo]) -> Workers:
    return Workers(Store.open(todos[0].store))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[str]]]:
    """Return what runs a grid on two GPUs and 64 CPUs, or others."""

    def run(
        todos: list[Todo], resources: Resources, workers: Workers, **node: float
    ) -> tuple[int, list[str]]:
        """Return how many lanes ran at once, and what was said."""
        has = {"CPU": 64.0, "GPU": 2.0, "memory": 256 << 30, "node:__internal_head__": 1.0, **node}
        machine = {"Alive": True, "Resources": has, "NodeID": "n"}
        said: list[str] = []
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr("lotus_ray.cluster.nodes.ray", SimpleNamespace(nodes=lambda: [machine]))
        for name, stand_in in {
            "session": nullcontext,
            "check_every_node": lambda *_: None,
            "_clear": lambda _: None,
            "_run_trials": workers.run,
            "_fit": workers.fit,
        }.items():
            monkeypatch.setattr(grid, name, stand_in)
        lanes = grid.run_lanes(todos, resources, said.append, lambda: 0, lambda: None)
        assert {row["status"] for row in workers.store.rows().values()} == {"ok"}
        return lanes, said

    return run


def test_first_cells_have_a_gpu_each_and_the_others_share(
    todos: list[Todo], workers: Workers, run: Any
) -> None:
    """20 · 1.25 = 25 of 90 units: three lanes a GPU, and five lanes on two GPUs are so many."""
    lanes, said = run(todos, SHARED, workers)
    assert lanes == 6
    assert workers.at_once == [2, 6]
    assert workers.ran[:4] == [
        (seed, method, 1.0) for seed in (0, 1) for method in ("Original", "Finetuning")
    ]
    assert {gpus for *_, gpus in workers.ran[4:]} == {0.3333}
    assert Counter(method for _, method, _ in workers.ran) == dict.fromkeys(NEEDS, 5)
    assert {row["attempts"] for row in workers.store.rows().values()} == {1}
    assert said == [
        "first, how much of a GPU's memory a lane needs is measured",
        "3 lanes share a GPU, whose memory holds 3",
    ]


def test_what_an_earlier_run_measured_is_not_measured_again(
    todos: list[Todo], workers: Workers, run: Any
) -> None:
    run(todos, SHARED, workers)
    workers.ran.clear()
    again = [Todo(todo.lane, {c.cell_id: 1 for c in todo.lane.cells}, todo.store) for todo in todos]
    run(again, SHARED, workers)
    assert workers.at_once == [2, 6, 6]
    assert workers.gpus(*NEEDS) == {0.3333}


@pytest.mark.parametrize("resources", [SHARED, Resources(gpus_per_worker=0.3333)])
def test_a_lane_that_needs_more_than_its_part_goes_on_with_a_whole_gpu(
    todos: list[Todo], workers: Workers, run: Any, resources: Resources
) -> None:
    """SSD takes half of a GPU where Finetuning took a fifth: no row of it says "oom"."""
    workers.needs["SSD"] = 50
    lanes, said = run(todos, resources, workers)
    assert lanes == 6
    assert workers.at_once[-2:] == [6, 2]
    assert said[-1] == "lanes that need more than their part of a GPU go on with whole ones"
    rows = workers.store.rows().values()
    assert {row["attempts"] for row in rows if row["method"] == "SSD"} == {2}
    assert {row["attempts"] for row in rows if row["method"] != "SSD"} == {1}
    assert workers.gpus("SSD") == {0.3333, 1.0}
    assert [gpus for *_, gpus in workers.ran[-5:]] == [1.0] * 5


def test_a_lane_that_fills_a_gpu_shares_none(todos: list[Todo], workers: Workers, run: Any) -> None:
    workers.needs["Finetuning"] = 80
    lanes, said = run(todos, SHARED, workers)
    assert lanes == 2
    assert workers.gpus(*NEEDS) == {1.0}
    assert said[-1] == "a lane takes most of a GPU's memory: each has one of its own"


@pytest.mark.parametrize(
    ("node", "lanes_at_once", "part", "lanes"),
    [
        ({"CPU": 4.0}, None, 0.5, 4),  # two lanes on each GPU, not four on one and none on another
        ({"CPU": 2.0}, None, 1.0, 2),
        ({}, 3, 0.5, 3),
        ({}, 2, 1.0, 2),
        ({"memory": float(4 * LANE_DRIVER_BYTES)}, None, 0.5, 4),
        ({"GPU": 5.0}, None, 1.0, 5),
    ],
)
def test_no_more_lanes_share_a_gpu_than_can_run(
    todos: list[Todo],
    workers: Workers,
    run: Any,
    node: dict[str, float],
    lanes_at_once: int | None,
    part: float,
    lanes: int,
) -> None:
    """CPUs, the job or the head's memory bound them; memory of a GPU would hold three."""
    need = SHARED.model_copy(update={"lanes_at_once": lanes_at_once})
    assert run(todos, need, workers, **node)[0] == lanes
    assert workers.gpus("SSD") == {part}


def test_lanes_that_the_measuring_ended_are_not_counted(
    todos: list[Todo], workers: Workers, run: Any
) -> None:
    """Three lanes of two cells on two GPUs: one is left, and has a GPU of its own."""
    few = [
        Todo(todo.lane, {c.cell_id: 0 for c in todo.lane.cells if c.label in _TWO}, todo.store)
        for todo in todos[:3]
    ]
    run(few, SHARED, workers)
    assert workers.gpus(*NEEDS) == {1.0}
    assert Counter(method for _, method, _ in workers.ran) == {"Original": 3, "Finetuning": 3}


_TWO = ("Original", "Finetuning")


def test_a_job_that_does_not_ask_shares_none(todos: list[Todo], workers: Workers, run: Any) -> None:
    assert run(todos, Resources(gpus_per_worker=1), workers) == (2, [])
    assert workers.gpus(*NEEDS) == {1.0}


@pytest.mark.parametrize(("gpus", "survives"), [(0.25, True), (1.0, False)])
def test_a_worker_keeps_to_its_part_and_says_when_it_is_too_small(
    monkeypatch: pytest.MonkeyPatch, gpus: float, survives: bool
) -> None:
    """A death would be tried again on the same part."""
    kept: list[float] = []

    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("full")

    monkeypatch.setattr("ray.train.torch.get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(worker, "joined_workers", lambda _: Alone())
    monkeypatch.setattr(worker, "_gathered", lambda *_: (object(), None))
    monkeypatch.setattr(worker, "keep_to_part", lambda _, part: kept.append(part))
    monkeypatch.setattr(worker, "run_lane", full)
    todo = SimpleNamespace(room=SimpleNamespace(occupied=nullcontext))
    config = {"todo": todo, "threads": 1, "gpus": gpus}
    if survives:
        assert isinstance(worker.lane_loop(config), GpuPartTooSmall)
    else:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            worker.lane_loop(config)
    assert kept == [gpus]


def test_what_a_worker_says_of_its_part_reaches_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Trainer:
        def __init__(self, *_: Any, train_loop_config: dict[str, Any], **__: Any) -> None:
            asked.append(train_loop_config)

        def fit(self) -> Any:
            return SimpleNamespace(return_value=GpuPartTooSmall("full"))

    monkeypatch.setattr(grid, "TorchTrainer", Trainer)
    todo: Any = SimpleNamespace()
    with pytest.raises(GpuPartTooSmall):
        grid._fit(todo, Resources(gpus_per_worker=0.25, cpus_per_worker=3), "/tmp")
    assert asked == [{"todo": todo, "threads": 3, "gpus": 0.25}]
