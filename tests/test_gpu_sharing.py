"""Several lanes on one GPU, by hand: no GPU is needed to count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lotus_ray.base import memory
from lotus_ray.base.memory import CONTEXT_BYTES
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.gpu_sharing import gpus_a_lane, lanes_a_gpu, to_measure
from lotus_ray.job.cells import Lane, plan
from lotus_ray.job.load import load_job
from lotus_ray.job.work_order import Todo
from lotus_ray.trial.row import machine_facts, with_attempts

JOB = Path(__file__).parents[1] / "jobs" / "digits.yaml"


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Lane:
    data = prepare(SOURCES["digits"], tmp_path_factory.mktemp("data") / "digits")
    methods = "grid.methods=[original, gold, finetune, ssd]"
    return plan(load_job(JOB, [methods, "grid.seeds=[1]"]), [data]).lanes[0]


def todo_of(lane: Lane, *labels: str) -> Todo:
    missing = {cell.cell_id: 3 for cell in lane.cells if not labels or cell.label in labels}
    return Todo(lane, missing, "store")


def another(lane: Lane, seed: int, **changed: Any) -> Lane:
    """Return the lane of another seed; its cells have other ids."""
    cells = tuple(replace(cell, spec={**cell.spec, "seed": seed}) for cell in lane.cells)
    return replace(lane, seed=seed, cells=cells, **changed)


def row(peak: int, there: int = 100, **said: Any) -> dict[str, Any]:
    """Return a row of a GPU, in units of 20 contexts."""
    unit = 20 * CONTEXT_BYTES
    held = {"workers": 1, "peak_device_bytes": peak * unit, "device_bytes": there * unit}
    return {"status": "ok", "resources": {**held, **said.pop("resources", {})}, **said}


def labels(todos: list[Todo]) -> list[tuple[int, list[str]]]:
    """Return the seed of each lane, and what it is to run."""
    return [
        (t.lane.seed, [c.label for c in t.lane.cells if c.cell_id in t.generations]) for t in todos
    ]


@pytest.mark.parametrize(
    ("rows", "lanes"),
    [
        ([], None),
        ([row(0)], 1800),  # nothing but contexts, of 1/20 each: 90 · 20
        ([row(20)], 3),  # 90 ÷ (25 + 1/20)
        ([row(10), row(20)], 3),
        ([row(72)], 1),
        ([row(100)], 1),
        ([row(20), row(20, 60)], 2),  # 54 ÷ 25.05
        ([row(20), row(90, status="oom")], 3),
        ([row(1, status="failed")], None),
        ([row(5, resources={"workers": 4})], None),
    ],
)
def test_a_gpu_is_shared_by_as_many_lanes_as_the_largest_cell_allows(
    rows: list[dict[str, Any]], lanes: int | None
) -> None:
    """Of 100 units 90 may be used; a lane has 1.25 of what the largest cell held, and a context."""
    on_cpu = {"status": "ok", "resources": {"device_type": "cpu", "workers": 1}}
    assert lanes_a_gpu([on_cpu, {}, *rows]) == lanes


@pytest.mark.parametrize(("lanes", "part"), [(1, 1.0), (2, 0.5), (3, 0.3333), (7, 0.1428)])
def test_parts_of_a_gpu_never_sum_to_more_than_one(lanes: int, part: float) -> None:
    assert gpus_a_lane(lanes) == part
    assert all(gpus_a_lane(many) * many <= 1 for many in range(1, 200))


def test_a_lane_of_each_kind_runs_to_its_first_cell_that_unlearns(lane: Lane) -> None:
    """Then others, while there are GPUs."""
    todos = [todo_of(another(lane, seed)) for seed in range(4)]
    other = todo_of(another(lane, 9, batch_size=7))
    first = ["Original", "Finetuning"]
    assert labels(to_measure([*todos, other], {}, 1)) == [(0, first), (9, first)]
    assert labels(to_measure([*todos, other], {}, 2)) == [(0, first), (9, first)]
    assert [seed for seed, _ in labels(to_measure([*todos, other], {}, 4))] == [0, 9, 1, 2]
    assert set(to_measure(todos, {}, 1)[0].generations.values()) == {3}


def test_a_gold_standard_is_not_measured(lane: Lane) -> None:
    """It starts from no original. Where nothing else is missing, the first cell is measured."""
    todo = todo_of(lane)
    assert [cell.label for cell in lane.cells] == ["Original", "Gold Std", "Finetuning", "SSD"]
    assert labels(to_measure([todo], {lane.cells[1].cell_id: row(10)}, 1)) == [
        (1, ["Original", "Finetuning"])
    ]
    assert labels(to_measure([todo_of(lane, "Gold Std")], {}, 1)) == [(1, ["Gold Std"])]


def test_an_original_that_has_its_row_is_not_measured_again(lane: Lane) -> None:
    ssd = todo_of(lane, "SSD")
    assert labels(to_measure([ssd], {}, 1)) == [(1, ["SSD"])]
    alone = todo_of(lane, "Original")
    assert labels(to_measure([alone], {}, 1)) == [(1, ["Original"])]


def test_what_rows_tell_is_not_measured(lane: Lane) -> None:
    """An original's row does not tell: it may have been given, and never have trained."""
    original, _, finetune, _ = lane.cells
    todos = [todo_of(lane), todo_of(another(lane, 2))]
    assert to_measure(todos, {finetune.cell_id: row(10)}, 1) == []
    assert len(to_measure(todos, {original.cell_id: row(10)}, 1)) == 1
    assert len(to_measure(todos, {finetune.cell_id: {"resources": {}}}, 1)) == 1
    assert len(to_measure(todos, {"of another job": row(10)}, 1)) == 1


def test_a_process_is_kept_to_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four lanes each may hold a quarter of the 90 % that is used, less its context of 1 %."""
    kept: list[float] = []
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda part, device: kept.append(part)
    )
    gpu = SimpleNamespace(total_memory=100 * CONTEXT_BYTES)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for device, gpus in ((cuda, 0.25), (cuda, 1), (cuda, 2), (cpu, 0), (cpu, 0.25), (cuda, 0.01)):
        memory.keep_to_part(device, gpus)
    assert kept == [pytest.approx(0.215), 0.0]


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("full"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_a_gpus_memory_asks_for_a_whole_gpu(error: Exception) -> None:
    assert [memory.outgrew_part(error, gpus) for gpus in (0, 0.5, 1, 2)] == [0, 1, 0, 0]


@pytest.mark.parametrize("error", [MemoryError("out of memory"), RuntimeError("shapes differ")])
def test_nothing_else_asks_for_a_whole_gpu(error: Exception) -> None:
    assert not memory.outgrew_part(error, 0.5)


def test_time_on_the_smallest_part_is_a_cells_too() -> None:
    """It went on from its border on a whole GPU; others ran on one all the time, or on none."""
    whole, part = {"workers": 1}, {"workers": 1, "gpus_per_worker": 0.25}
    found = with_attempts({"resources": whole}, [{**part, "gpus_per_worker": 0.5}, part, whole])
    assert found == {"resources": part}
    assert with_attempts({"resources": whole}, [whole, whole]) == {"resources": whole}


def test_a_row_says_which_part_of_a_gpu_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    cuda = torch.device("cuda")
    assert machine_facts(cuda, 1, 0.25)["resources"]["gpus_per_worker"] == 0.25
    assert "gpus_per_worker" not in machine_facts(cuda, 1, 1)["resources"]
    assert "gpus_per_worker" not in machine_facts(torch.device("cpu"), 1, 0)["resources"]
