"""What a death of workers leads to: a table of cases, without Ray."""

from __future__ import annotations

import pytest

from lotus_ray.cluster.death_policy import MAX_RESTARTS, Death, Decision, decide

CASES = {
    "a first death in a cell": (Death(True, attempts=1), Decision.RUN_AGAIN),
    "the last death that a cell may have": (Death(True, attempts=2), Decision.RUN_AGAIN),
    "one more": (Death(True, attempts=3), Decision.FAIL_CELL),
    "one more, but it came further": (
        Death(True, came_further=True, attempts=3),
        Decision.RUN_AGAIN,
    ),
    "one more, but one attempt began to grow": (
        Death(True, attempts=3, attempts_to_grow=1),
        Decision.RUN_AGAIN,
    ),
    "growth hides no further deaths": (
        Death(True, attempts=4, attempts_to_grow=1),
        Decision.FAIL_CELL,
    ),
    "the cell was claimed, and had not begun": (Death(False, attempts=9), Decision.RUN_AGAIN),
}


@pytest.mark.parametrize("name", CASES)
def test_a_death_leads_to(name: str) -> None:
    death, decision = CASES[name]
    assert decide(death) is decision


def test_the_cases_are_of_two_restarts() -> None:
    assert MAX_RESTARTS == 2
    assert {decision for _, decision in CASES.values()} == set(Decision)
