"""What a grid came to, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lotus_ray.grid.outcome import Outcome
from lotus_ray.job.cells import Cell
from lotus_ray.job.plan import Plan
from lotus_ray.store.row import Row


def outcome_of(seconds: list[float], trials_at_once: int | None) -> Outcome:
    """Return the outcome of cells that took some seconds: Ray started in 10 s, all ended in 40."""
    cells = [Cell("X", {"number": number}) for number, _ in enumerate(seconds)]
    group: Any = SimpleNamespace(cells=cells, name="group")
    rows = {
        cell.cell_id: Row(cell_id=cell.cell_id, timing={"unlearn_seconds": spent})
        for cell, spent in zip(cells, seconds, strict=True)
    }
    stages = {"start": 10.0, "cells": 30.0}
    return Outcome("", Plan((group,), {}), rows, stages, set(rows), trials_at_once)


def test_efficiency_is_one_if_no_trial_waited() -> None:
    """Cells of 30 and 20 s in two trials within 40 s fill 50 of 80 seconds."""
    assert outcome_of([30.0, 20.0], 2).efficiency == 0.625
    assert outcome_of([30.0, 20.0], 2).packing_line == "cells used 62% of the time of 2 trials"
    assert outcome_of([40.0, 40.0], 2).efficiency == 1
    assert outcome_of([], None).efficiency is None
