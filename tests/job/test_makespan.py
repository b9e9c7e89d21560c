"""Ideal schedules, by hand."""

from __future__ import annotations

from graphlib import CycleError
from itertools import product

import pytest

from lotus_ray.job.makespan import ideal_makespan, ways_to_end

# The published minutes of ImageNet-1K on one RTX A6000, of unlearning alone. Spartalis et al. 2025.
MINUTES = {
    "Finetuning": 16.24,
    "NegGrad+": 18.10,
    "Rnd Labeling": 19.37,
    "Bad Teacher": 11.66,
    "SCRUB": 24.49,
    "SSD": 22.61,
    "UNSIR": 33.12,
    "SalUn": 59.27,
    "LoTUS": 10.72,
}


def test_the_longest_way_starts_first() -> None:
    """a frees b and c; g needs nothing. Ways: a 2 + 4 = 6, b 4, c 1, g 5.

    One place takes all 12. Two: a and g at 0, b from 2 to 6, c from 5 to 6. With three, b and c
    start at 2, and a and b still take 6: the longest chain.
    """
    costs, needs = {"g": 5.0, "a": 2.0, "b": 4.0, "c": 1.0}, {"b": ["a"], "c": ["a"]}
    assert ways_to_end(costs, needs) == {"a": 6, "b": 4, "c": 1, "g": 5}
    assert [ideal_makespan(costs, needs, places) for places in (1, 2, 3, 64)] == [12, 6, 6, 6]


def test_priority_is_the_way_and_not_the_cost() -> None:
    """Two places. By cost g and h go first: a at 3, b at 4, end 8. By way a, of 5, goes first: a
    and g at 0, b at 1 until 5, h at 3 until 6."""
    costs, needs = {"g": 3.0, "h": 3.0, "a": 1.0, "b": 4.0}, {"b": ["a"]}
    assert ideal_makespan(costs, needs, 2) == 6


def test_a_place_waits_until_its_cell_is_ready() -> None:
    """Two originals of 1 and 5 with one method of 3 each: 0 to 1, 1 to 4; 0 to 5, 5 to 8."""
    costs = {"o1": 1.0, "m1": 3.0, "o2": 5.0, "m2": 3.0}
    needs = {"m1": ["o1"], "m2": ["o2"]}
    assert ideal_makespan(costs, needs, 2) == 8
    assert ideal_makespan(costs, needs, 1) == 12


def test_a_list_schedule_is_not_the_best_one() -> None:
    """Graham's example: 3, 3, 2, 2, 2 on two places end at 7, and 6 can be had."""
    costs = dict(zip("abcde", (3.0, 3.0, 2.0, 2.0, 2.0), strict=True))
    assert ideal_makespan(costs, {}, 2) == 7


def test_a_need_that_is_not_to_run_has_ended() -> None:
    assert ideal_makespan({"m": 3.0}, {"m": ["committed"]}, 1) == 3
    assert ideal_makespan({}, {}, 1) == 0


def test_a_cell_may_need_several() -> None:
    """m starts at 4, when the later of its needs ends; the place of a is idle from 1 on."""
    costs, needs = {"a": 1.0, "b": 4.0, "m": 2.0}, {"m": ["a", "b"]}
    assert ideal_makespan(costs, needs, 2) == 6


def test_cells_that_need_each_other_are_refused() -> None:
    with pytest.raises(CycleError):
        ideal_makespan({"a": 1.0, "b": 1.0}, {"a": ["b"], "b": ["a"]}, 1)


def published() -> tuple[dict[str, float], dict[str, list[str]]]:
    """Return the 30 cells of jobs/imagenet.yaml in minutes. Originals are given: they cost 0."""
    costs = {f"original {seed}": 0.0 for seed in range(3)}
    needs = {}
    for seed, (method, minutes) in product(range(3), MINUTES.items()):
        costs[f"{method} {seed}"] = minutes
        needs[f"{method} {seed}"] = [f"original {seed}"]
    return costs, needs


def test_the_published_cells_keep_places_busy() -> None:
    """Their sum is 3 · 215.58 minutes. No schedule is shorter than that ÷ places, nor than SalUn.

    From 16 places on, SalUn alone decides.
    """
    costs, needs = published()
    assert len(costs) == 30
    assert sum(costs.values()) == pytest.approx(3 * 215.58)
    for places in (1, 2, 4, 8, 16, 64):
        least = max(3 * 215.58 / places, 59.27)
        assert least <= ideal_makespan(costs, needs, places) * (1 + 1e-9) <= 1.08 * least, places
    assert ideal_makespan(costs, needs, 16) == ideal_makespan(costs, needs, 64) == 59.27


def test_a_thousand_cells() -> None:
    """40 originals of 50, and 24 methods of 1 to 7 after each: 64 places end with the last ones."""
    costs = {f"o{group}": 50.0 for group in range(40)}
    needs = {}
    for number in range(960):
        costs[f"m{number}"] = 1.0 + number % 7
        needs[f"m{number}"] = [f"o{number % 40}"]
    least = max(sum(costs.values()) / 64, 50 + 7)
    assert least <= ideal_makespan(costs, needs, 64) <= 50 + 960 * 4 / 64 + 7
