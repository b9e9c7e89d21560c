"""SFRon against weights derived by hand, on the linear model of test_one_step."""

from __future__ import annotations

import math

import pytest
import torch

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.sfron import Sfron
from lotus_ray.unlearning.problem import Problem
from tests.toy import make_dataset, make_problem, make_roles
from tests.unlearning.methods.test_one_step import WHITE, linear, weight_after, white_problem


def plain(**settings: object) -> Sfron:
    """Return SFRon without momentum and weight decay, with an ascent before each repair."""
    chosen = {"steps": 1, "lr": 0.1, "momentum": 0, "weight_decay": 0, "ascend_every": 1}
    return Sfron(**{**chosen, "alpha": 2.0, **settings})


def test_it_ascends_then_repairs() -> None:
    """F_f = F_r = ¼ everywhere, so F_f/F_r = 1 selects all weights.

    Ascent: −2·(+½, −½), norm √24 < 7: w = +.1. Repair: logits (1.2, −1.2) of a white image,
    p_1 = 1/(1 + e^2.4) = 0.08317269649392238, lr·s_0 = .1: w = .1 + .1·p_1.
    Losses: −2·ln 2, then −log(1 − p_1).
    """
    problem = white_problem()
    records = unlearn(plain(), problem)
    chance = 0.08317269649392238
    assert records[0].losses == pytest.approx([-2 * math.log(2), -math.log(1 - chance)])
    assert records[0].notes == {"selected": 1.0}
    assert weight_after(problem) == pytest.approx(0.1 + 0.1 * chance, abs=1e-15)


def test_the_ascent_is_clipped_and_the_repair_is_not() -> None:
    """Norm √24 of the ascent becomes ½: each feature ½/√24; the repair's √24/2 stays.

    torch divides by the norm + 1e-6: some 4e-9 of the step.
    """
    problem = white_problem()
    unlearn(plain(max_norm=0.5), problem)
    first = 0.1 * 0.5 / math.sqrt(24)
    chance = 1 / (1 + math.exp(24 * first))
    assert weight_after(problem) == pytest.approx(first + 0.1 * chance, abs=1e-8)


def mixed(labels: list[int], weight: float) -> Problem:
    """Return two forget rows and two retain rows, all white, of given labels."""
    dataset = make_dataset(WHITE.expand(4, 3, 2, 2), make_roles("ffrr", labels, 2))
    return make_problem(linear(weight), dataset)


def test_images_that_are_forgotten_already_weigh_less() -> None:
    """w = .05: logits (.6, −.6), ℓ_0 = ln(1 + e^−1.2), ℓ_1 = ln(1 + e^1.2).

    Gradients of a feature of row 0 of W: −q for class 0 with q = 1/(1 + e^1.2), 1 − q for class 1.
    With λ = 1 the weights are 1/ℓ: g = (−q/ℓ_0 + (1 − q)/ℓ_1) / (1/ℓ_0 + 1/ℓ_1), and the loss is
    −2·2/(1/ℓ_0 + 1/ℓ_1). Ascent: w + .1·2·g. γ = 0 selects every weight.
    """
    q = 1 / (1 + math.exp(1.2))
    zero, one = math.log(1 + math.exp(-1.2)), math.log(1 + math.exp(1.2))
    pull = (-q / zero + (1 - q) / one) / (1 / zero + 1 / one)
    problem = mixed([0, 1, 0, 0], 0.05)
    records = unlearn(plain(exponent=1.0, threshold=0.0), problem)
    moved = 0.05 + 0.1 * 2 * pull
    assert records[0].losses[0] == pytest.approx(-4 / (1 / zero + 1 / one))
    repaired = moved + 0.1 / (1 + math.exp(24 * moved))
    assert weight_after(problem) == pytest.approx(repaired, abs=1e-14)


def test_weights_that_matter_more_to_the_retain_set_are_not_raised() -> None:
    """At w = .05 class 0 has gradient q = .23 and class 1 has 1 − q: F_f/F_r = (q/(1 − q))² < 1.

    Nothing is selected: the ascent moves nothing, and the repair is that of finetuning:
    w = .05 − .1·(1 − q).
    """
    problem = mixed([0, 0, 1, 1], 0.05)
    records = unlearn(plain(), problem)
    assert records[0].notes == {"selected": 0.0}
    q = 1 / (1 + math.exp(1.2))
    assert weight_after(problem) == pytest.approx(0.05 - 0.1 * (1 - q), abs=1e-15)


def test_the_schedule_and_the_ascents_follow_the_step() -> None:
    """4 retain rows in batches of 2, 5 steps, an ascent before every second step: steps 0, 2, 4.

    s_t of 5 steps: 1, .9045, .6545, .3455, .0955 (cosine).
    """
    problem = white_problem(roles="ffrrrr", batch_size=2)
    method = plain(steps=5, ascend_every=2)
    assert [method.scale(t) for t in range(5)] == pytest.approx(
        [1, 0.9045084971874737, 0.6545084971874737, 0.3454915028125263, 0.0954915028125263]
    )
    phases = [list(phase.batches) for phase in method.phases(problem)]
    steps = [step for phase in phases for step in phase]
    assert [len(phase) for phase in phases] == [3, 3, 2]
    assert [step.index for step in steps] == [0, 0, 1, 2, 2, 3, 4, 4]
    assert [int(step.ascent) for step in steps] == [1, 0, 0, 1, 0, 0, 1, 0]
    assert all(bool(step.batch.forget.all()) == step.ascent for step in steps)


def test_adamw_is_an_option() -> None:
    phase = next(iter(plain(optimizer="adamw", lr=2e-5).phases(white_problem())))
    assert isinstance(phase.optimizer, torch.optim.AdamW)
    with pytest.raises(MethodError, match="neither sgd nor adamw"):
        plain(optimizer="adam")
