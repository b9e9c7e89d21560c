"""The benchmark of compute as a user runs it; nothing is said of how fast anything is."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest
import torch

from lotus_ray.bench import compute, mask, overhead, steps, unlearning
from lotus_ray.bench.scoreboard import Figure, to_plain
from lotus_ray.bench.step_loop import torchrun_step_seconds
from tests.bench.command import bench


@pytest.mark.bench
def test_one_method_alone_is_measured_beside_its_floor() -> None:
    found, said = bench("compute", "--methods", "ssd")
    assert set(found) == {"floor.ssd", "floor.evaluate", "C10.forwards", "machine", "rates"}
    assert found["C10.forwards"]["value"] == 1.0
    assert found["floor.ssd"]["target"] == 1.1
    assert "bare network" in said


def test_all_of_it_is_measured_and_what_is_not_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, int] = {}

    def stand_in(name: str):  # type: ignore[no-untyped-def]
        def measured(*arguments: object) -> tuple[dict[str, Figure], dict[str, float]]:
            asked[name] = arguments[-1]  # type: ignore[assignment]
            return {name: Figure("", 1.0, 1.0, False, 1)}, {}

        return measured

    for name, module in {"floors": unlearning, "C9": mask, "C6": steps, "C11": overhead}.items():
        monkeypatch.setattr(module, "measure", stand_in(name))
    monkeypatch.setattr(steps, "enough_cpus", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said: list[str] = []
    report = compute.measure(5, [], said.append)
    assert asked == {"floors": 5, "C9": 3, "C6": 5, "C11": 3}
    assert list(report.figures) == ["floors", "C9", "C6", "C11"]
    assert len(said) == 4
    notes = to_plain(report.figures, report.rates, report.notes)["notes"]
    assert notes == ["G1 to G5 need a CUDA GPU, and here is none: not measured"]


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
