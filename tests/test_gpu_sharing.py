"""Several lanes on one GPU, by hand: no GPU is needed to count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lotus_ray import memory
from lotus_ray.cells import Lane, plan
from lotus_ray.data.prepare import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.gpu_sharing import gpus_a_lane, lanes_a_gpu, to_measure
from lotus_ray.job import load_job
from lotus_ray.rows import machine_facts
from lotus_ray.todo import Todo

JOB = Path(__file__).parents[1] / "jobs" / "digits.yaml"


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    data = prepare(SOURCES["digits"], tmp_path / "digits")
    methods = "grid.methods=[original, finetune, ssd]"
    return plan(load_job(JOB, [methods, "grid.seeds=[1]"]), [data]).lanes[0]


def todo_of(lane: Lane, *labels: str) -> Todo:
    missing = {cell.cell_id: 3 for cell in lane.cells if not labels or cell.label in labels}
    return Todo(lane, missing, "store")


def another(lane: Lane, seed: int, **changed: Any) -> Lane:
    """Return the lane of another seed; its cells have other ids."""
    cells = tuple(replace(cell, spec={**cell.spec, "seed": seed}) for cell in lane.cells)
    return replace(lane, seed=seed, cells=cells, **changed)


def row(peak: int) -> dict[str, Any]:
    return {"resources": {"peak_device_bytes": peak, "device_bytes": 100}}


def labels(todos: list[Todo]) -> list[tuple[int, list[str]]]:
    """Return the seed of each lane, and what it is to run."""
    return [
        (t.lane.seed, [c.label for c in t.lane.cells if c.cell_id in t.generations]) for t in todos
    ]


@pytest.mark.parametrize(
    ("peaks", "lanes"),
    [([], None), ([10], 9), ([10, 24], 3), ([89], 1), ([100], 1), ([45], 2)],
)
def test_a_gpu_is_shared_by_as_many_lanes_as_the_largest_cell_allows(
    peaks: list[int], lanes: int | None
) -> None:
    """Of 100 bytes 90 may be used."""
    rows = [{"resources": {"device_type": "cpu"}}, {}, *map(row, peaks)]
    assert lanes_a_gpu(rows) == lanes


def test_headroom_makes_lanes_fewer() -> None:
    """20 · 1.25 = 25 of 90: three. 72 · 1.25 = 90: one."""
    assert [lanes_a_gpu([row(20)], 1.25), lanes_a_gpu([row(72)], 1.25)] == [3, 1]
    assert lanes_a_gpu([row(20)]) == 4


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


def test_an_original_that_has_its_row_is_not_measured_again(lane: Lane) -> None:
    ssd = todo_of(lane, "SSD")
    assert labels(to_measure([ssd], {}, 1)) == [(1, ["SSD"])]
    alone = todo_of(lane, "Original")
    assert labels(to_measure([alone], {}, 1)) == [(1, ["Original"])]


def test_what_rows_tell_is_not_measured(lane: Lane) -> None:
    """An original's row does not tell: it may have been given, and never have trained."""
    original, finetune, _ = lane.cells
    todos = [todo_of(lane), todo_of(another(lane, 2))]
    assert to_measure(todos, {finetune.cell_id: row(10)}, 1) == []
    assert len(to_measure(todos, {original.cell_id: row(10)}, 1)) == 1
    assert len(to_measure(todos, {finetune.cell_id: {"resources": {}}}, 1)) == 1
    assert len(to_measure(todos, {"of another job": row(10)}, 1)) == 1


def test_a_process_is_kept_to_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four lanes each may hold a quarter of the 90 % that is used."""
    kept: list[float] = []
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda part, device: kept.append(part)
    )
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    for device, gpus in ((cuda, 0.25), (cuda, 1), (cuda, 2), (cpu, 0), (cpu, 0.25)):
        memory.keep_to_part(device, gpus)
    assert kept == [0.225]


def test_only_a_gpus_memory_asks_for_a_whole_gpu() -> None:
    part, whole = {"resources": {"gpus_per_worker": 0.5}}, {"resources": {}}
    error = torch.cuda.OutOfMemoryError("full")
    assert memory.outgrew_part(error, part)
    assert not memory.outgrew_part(error, whole)
    assert not memory.outgrew_part(MemoryError("full"), part)


def test_a_row_says_which_part_of_a_gpu_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    cuda = torch.device("cuda")
    assert machine_facts(cuda, 1, 0.25)["resources"]["gpus_per_worker"] == 0.25
    assert "gpus_per_worker" not in machine_facts(cuda, 1, 1)["resources"]
    assert "gpus_per_worker" not in machine_facts(torch.device("cpu"), 1, 0)["resources"]
