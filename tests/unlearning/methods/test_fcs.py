"""FCS: its three losses, its schedule and its rounds by hand.

W = (w, −w) in each of 12 features with w = ln 3 / 24: a white image has logits ½·(ln 3, −ln 3) and
s = (¾, ¼), a black one (0, 0).
"""

from __future__ import annotations

import math

import pytest
import torch

from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.fcs import Fcs
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, make_dataset, make_problem, make_roles
from tests.toy_convolution import WHITE

BLACK = torch.zeros_like(WHITE)
WEIGHT = math.log(3) / 24


def problem(roles: str = "frr", batch_size: int = 100) -> Problem:
    """Return white forget images of class 1; retain images of class 0, the last one black."""
    model = Linear(12, 2).double()
    with torch.no_grad():
        model.head.weight[0], model.head.weight[1] = WEIGHT, -WEIGHT
    pixels = torch.stack([*[WHITE] * (len(roles) - 1), BLACK])
    labels = [int(role == "f") for role in roles]
    return make_problem(model, make_dataset(pixels, make_roles(roles, labels, 2)), batch_size)


def weight_after_first_step(stage: Problem, number: int, method: Fcs) -> tuple[float, float]:
    """Take the first step of a phase at the original's weights; return the loss and w."""
    phase = list(method.phases(stage))[number]
    step = next(iter(phase.batches))
    loss = phase.loss(stage.model, step)
    loss.backward()  # type: ignore[no-untyped-call]
    phase.optimizer.step()
    found = stage.model.head.weight.detach()
    assert torch.allclose(found, torch.tensor([[1.0], [-1.0]]).double() * found[0, 0], atol=1e-15)
    return loss.item(), found[0, 0].item()


def test_the_first_pass_flattens() -> None:
    """KL(u ‖ s) = ½·ln(½/¾) + ½·ln(½/¼) = ½·ln(4/3); the gradient is s − u = (¼, −¼).

    KL(s ‖ u) would be .1308.
    """
    loss, weight = weight_after_first_step(problem(), 0, Fcs(epochs=1, lr=0.1))
    assert loss == pytest.approx(math.log(4 / 3) / 2, abs=1e-15)
    assert weight == pytest.approx(WEIGHT - 0.025, abs=1e-15)


def test_the_forget_round_pushes_away_from_retain_images() -> None:
    """z_f·z_r is c = ½·(ln 3)²/τ for the white retain image and 0 for the black one.

    Loss: −½·(ln q + ln(1 − q)) with q = 1/(1 + e^−c). Its gradient to z_f is (q − ½)·z_r/τ, with
    z_r = ½·(ln 3, −ln 3); were z_r not fixed, W would move twice as far.
    """
    method = Fcs(epochs=1, forget_lr=0.1, temperature=1.15)
    loss, weight = weight_after_first_step(problem(), 1, method)
    q = 1 / (1 + math.exp(-(math.log(3) ** 2) / 2 / 1.15))
    assert loss == pytest.approx(-(math.log(q) + math.log(1 - q)) / 2, abs=1e-14)
    assert weight == pytest.approx(WEIGHT - 0.1 * (q - 0.5) * math.log(3) / 2 / 1.15, abs=1e-14)


def test_the_retain_round_is_cross_entropy_at_a_rate_that_grows_with_the_batch() -> None:
    """White of class 0 pulls (−¼, +¼), black nothing: mean ⅛. lr .064·100/64 = .1, decay .01."""
    method = Fcs(epochs=1, retain_lr=0.064)
    loss, weight = weight_after_first_step(problem(), 2, method)
    assert loss == pytest.approx((-math.log(0.75) + math.log(2)) / 2, abs=1e-15)
    assert weight == pytest.approx(WEIGHT + 0.1 * (0.125 - 0.01 * WEIGHT), abs=1e-15)


def test_the_forget_rate_falls_with_every_step_over_all_epochs() -> None:
    """2 epochs of 2 steps: (1 + cos(π·k/4))/2 of the way, for k = 0 … 3, down to the last rate."""
    stage = problem("ffffrr", batch_size=2)
    method = Fcs(epochs=2, forget_lr=1.1, last_forget_lr=0.1)
    phases = list(method.phases(stage))
    assert len(phases) == 5
    rates = [
        phase.optimizer.param_groups[0]["lr"]
        for phase in (phases[1], phases[3])
        for _ in phase.batches
    ]
    shares = [(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert rates == [pytest.approx(0.1 + share) for share in shares]
    assert phases[2].optimizer is phases[4].optimizer is not phases[1].optimizer


def test_a_small_retain_set_starts_again_within_a_forget_round() -> None:
    stage = problem("ffffffrr", batch_size=2)
    phase = list(Fcs(epochs=1, contrast_batch_size=2).phases(stage))[1]
    pairs = [
        (len(forgotten.rows), set(retained.rows.tolist())) for forgotten, retained in phase.batches
    ]
    assert pairs == [(2, {6, 7})] * 3


def test_phases_take_turns() -> None:
    records = unlearn(Fcs(epochs=2), problem("ffffrr", batch_size=2))
    assert [len(record.losses) for record in records] == [2, 2, 1, 2, 1]
