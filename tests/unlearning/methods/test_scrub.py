"""SCRUB against weights derived by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lotus_ray.base.errors import MethodError
from lotus_ray.bench.method_checks.checkpoints import Kept, Resumed
from lotus_ray.unlearning.contract import Phase
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.scrub import Scrub
from lotus_ray.unlearning.problem import Problem
from tests.unlearning.methods.test_one_step import weight_after, white_problem


def run_phase(problem: Problem, phase: Phase[Any]) -> None:
    """Train a phase as the engine does."""
    for batch in phase.batches:
        phase.optimizer.zero_grad()
        phase.loss(problem.model, batch).backward()  # type: ignore[no-untyped-call]
        phase.optimizer.step()


def test_scrub_moves_every_weight_by_its_sign_where_weight_decay_is_all_there_is() -> None:
    """First max step: no gradient, so Adam's step is −lr·sign(wd·θ), whatever wd.

    With `max_weight_decay: 0` nothing moves in max passes, and min passes keep their weight decay.
    """
    lr, weight = 0.01, 0.03
    for decay in (5e-4, 0.1):
        problem = white_problem(weight=weight)
        first = next(Scrub(epochs=1, msteps=1, lr=lr, weight_decay=decay).phases(problem))
        run_phase(problem, first)
        assert weight_after(problem) == pytest.approx(weight - lr, rel=1e-3)
    problem, decays = white_problem(weight=weight), []
    for phase in Scrub(epochs=2, msteps=1, lr=lr, max_weight_decay=0.0).phases(problem):
        decays.append(phase.optimizer.param_groups[0]["weight_decay"])
        if len(decays) == 1:
            run_phase(problem, phase)
            assert weight_after(problem) == pytest.approx(weight, abs=1e-12)
    assert decays == [0.0, 5e-4, 5e-4]


def test_scrub_decays_the_learning_rate_after_given_epochs() -> None:
    """The authors': a tenth after epochs 3, 5 and 9 of 10; a max phase in the first epoch."""
    method = Scrub(epochs=10, msteps=1, lr=1.0, lr_decay=(3, 5, 9))
    rates = [p.optimizer.param_groups[0]["lr"] for p in method.phases(white_problem())]
    expected = [1.0, *[1.0] * 3, *[0.1] * 2, *[0.01] * 4, 0.001]
    assert rates == pytest.approx(expected)
    assert Scrub(lr_decay=(1,), lr_decay_rate=0.5, lr=0.4).learning_rate(1) == 0.2
    with pytest.raises(MethodError, match="counted from 1"):
        Scrub(lr_decay=(0, 3))


def test_scrub_that_goes_on_from_a_checkpoint_keeps_its_schedule() -> None:
    """The checkpoint of the max pass holds the settings of that pass."""
    method = Scrub(epochs=2, msteps=1, lr=0.01, max_weight_decay=0.0, lr_decay=(1,))
    whole, kept = white_problem(weight=0.03), Kept()
    records = unlearn(method, whole, kept)
    assert len(kept.contents) == 3
    for content in kept.contents:
        problem = white_problem(weight=0.03)
        assert unlearn(method, problem, Resumed(content)) == records
        assert torch.equal(problem.model.head.weight, whole.model.head.weight)
