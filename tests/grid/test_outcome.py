"""What a grid came to, by hand."""

from __future__ import annotations

import pytest

from lotus_ray.grid.outcome import Outcome
from lotus_ray.job.plan import Plan
from lotus_ray.job.spans import Filling, Span


def outcome_of(*spans: tuple[float, float, float], places: int = 2) -> Outcome:
    """Return the outcome of cells that began, ended and waited at these times."""
    cells = [Span(str(n), "1", begin, end, waited) for n, (begin, end, waited) in enumerate(spans)]
    return Outcome("", Plan((), {}), {}, filling=Filling(places, cells))


def test_efficiency_is_one_if_no_place_waited() -> None:
    """Cells of 30 and 20 s at two places, from second 100 to 140, fill 50 of 80 seconds."""
    outcome = outcome_of((100, 130, 0), (120, 140, 0))
    assert outcome.efficiency == 0.625
    assert outcome.packing_line == (
        "cells filled 62% of 2 places, from the first begin to the last end"
    )
    assert outcome_of((0, 40, 0), (0, 40, 0)).efficiency == 1


def test_waiting_for_an_original_is_no_work() -> None:
    """A gold standard waits 10 of its 40 s: 70 of 80 seconds are filled."""
    assert outcome_of((0, 40, 0), (0, 40, 10)).efficiency == pytest.approx(0.875)


def test_a_command_that_ran_no_cell_has_no_efficiency() -> None:
    assert outcome_of().efficiency is None
    assert Outcome("", Plan((), {}), {}).packing_line == ""
