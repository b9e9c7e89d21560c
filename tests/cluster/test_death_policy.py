"""What a death of workers leads to: a table of cases, without Ray."""

from __future__ import annotations

import pytest

from lotus_ray.cluster.death_policy import MAX_RESTARTS, Death, Decision, decide

CASES = {
    "a first death in a cell": (Death(True, False, attempts=1), Decision.RESTART),
    "the last death that a cell may have": (Death(True, False, attempts=2), Decision.RESTART),
    "one more": (Death(True, False, attempts=3), Decision.FAIL_CELL),
    "one more, but it came further": (
        Death(True, False, came_further=True, attempts=3),
        Decision.RESTART,
    ),
    "one more, but one attempt began to grow": (
        Death(True, False, attempts=3, attempts_to_grow=1),
        Decision.RESTART,
    ),
    "growth hides no further deaths": (
        Death(True, False, attempts=4, attempts_to_grow=1),
        Decision.FAIL_CELL,
    ),
    "a cell was committed, and the next one had not begun": (Death(False, True), Decision.RESTART),
    "a cell was committed, and the next one died too often": (
        Death(True, True, attempts=3),
        Decision.FAIL_CELL,
    ),
    "no cell began": (Death(False, False, idle_deaths=0), Decision.RESTART),
    "no cell began, again": (Death(False, False, idle_deaths=1), Decision.RESTART),
    "no cell began, three times": (Death(False, False, idle_deaths=2), Decision.FAIL_GROUP),
    "earlier idle deaths are no fault of a cell": (
        Death(True, False, attempts=1, idle_deaths=9),
        Decision.RESTART,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_death_leads_to(name: str) -> None:
    death, decision = CASES[name]
    assert decide(death) is decision


def test_the_cases_are_of_two_restarts() -> None:
    assert MAX_RESTARTS == 2
    assert {decision for _, decision in CASES.values()} == set(Decision)
