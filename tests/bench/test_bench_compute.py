"""The benchmark of compute as a user runs it; nothing is said of how fast anything is."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest
import torch

from lotus_ray.bench import compute, mask, overhead, steps, unlearning
from lotus_ray.bench.scoreboard import Measurements, Score, to_json
from lotus_ray.bench.step_loop import torchrun_step_seconds
from tests.bench.command import bench


@pytest.mark.bench
def test_one_method_alone_is_measured_beside_its_floor() -> None:
    found, said = bench("compute", "--methods", "ssd")
    names = {"ssd_time_vs_bare_network", "evaluate_time_vs_bare_network", "forwards_vs_necessary"}
    old = {"floor.ssd", "floor.evaluate", "C10.forwards"}
    assert set(found) == names | old | {"machine", "rates"}
    assert found["forwards_vs_necessary"]["value"] == 1.0
    assert found["floor.ssd"] == found["ssd_time_vs_bare_network"]
    assert found["floor.ssd"]["target"] == 1.1
    assert "bare network" in said
    assert "floor.ssd is ssd_time_vs_bare_network" in said


def test_all_of_it_is_measured_and_what_is_not_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, int] = {}

    def stand_in(name: str):  # type: ignore[no-untyped-def]
        def measured(*arguments: object) -> Measurements:
            asked[name] = arguments[-1]  # type: ignore[assignment]
            return Measurements({name: Score("", "", 1.0, 1.0, False, 1)})

        return measured

    modules = {"floors": unlearning, "mask": mask, "steps": steps, "overhead": overhead}
    for name, module in modules.items():
        monkeypatch.setattr(module, "measure", stand_in(name))
    monkeypatch.setattr(steps, "enough_cpus", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said: list[str] = []
    measured = compute.measure(5, [], said.append)
    assert asked == {"floors": 5, "mask": 3, "steps": 5, "overhead": 3}
    assert list(measured.scores) == list(modules)
    assert len(said) == 4
    notes = to_json(measured)["notes"]
    assert notes == ["the benchmark of a GPU needs a CUDA GPU, and this machine has none"]


@pytest.mark.bench
def test_two_workers_of_torchrun_take_the_steps_that_are_counted() -> None:
    taken = torchrun_step_seconds(steps=3)
    assert len(taken) == 3
    assert statistics.median(taken) > 0


@pytest.mark.bench
def test_two_workers_of_ray_take_the_same_steps() -> None:
    """In a process of its own, as the command: Ray warns of its settings, and here that fails."""
    code = "from lotus_ray.bench.steps import ray_step_seconds; print(*ray_step_seconds(3))"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    taken = [float(seconds) for seconds in ended.stdout.split()]
    assert len(taken) == 3
    assert all(seconds > 0 for seconds in taken)
