"""Certified noise: its calibration, and weights derived by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.certified_noise import CertifiedNoise
from lotus_ray.unlearning.methods.noise import clip_weights, normal_like
from lotus_ray.unlearning.schedule import one_cycle
from tests.unlearning.methods.test_one_step import linear, weight_after, white_problem

# Next to no noise, and no fine-tuning to speak of.
QUIET = CertifiedNoise(epochs=1, lr=0, model_clip=100, gradient_clip=100, renyi=1e40, noise_steps=1)


def test_sigma_is_the_one_derived_by_hand() -> None:
    """T = 2, γ = λ·½ = ½, C0 = 1, C1 = ½, ε_R = ½: c = ½, S = 2·¼ + ½·(1 + ½) = 1.25 and
    G = 1 + ¼, so σ = 1.25/√(2·½·1.25) = √1.25. ε = ½ + 2·√(½·ln 1e5) = 5.298525912."""
    method = CertifiedNoise(
        model_clip=1, gradient_clip=0.5, noise_lr=0.5, shrink=1, renyi=0.5, noise_steps=2
    )
    assert method.sigma == pytest.approx(math.sqrt(1.25))
    assert method.epsilon == pytest.approx(0.5 + 2 * math.sqrt(0.5 * math.log(1e5)))
    assert method.epsilon == pytest.approx(5.298525912)


def test_the_authors_defaults() -> None:
    """T = ⌈.1/(100·.1)⌉ = 1; σ = (2·.1·.9 + 2·.1·100)/√(2·10) = 20.18/√20; ε = 31.46."""
    method = CertifiedNoise()
    assert method.steps == 1
    assert method.sigma == pytest.approx(20.18 / math.sqrt(20))
    assert method.epsilon == pytest.approx(10 + 2 * math.sqrt(10 * math.log(1e5)))


def test_the_number_of_steps_is_the_authors() -> None:
    """C0 = 1, C1 = .5, γ = .5: ⌈1/.25⌉ = 4; with λ = 1, ⌈ln(2·1/.5)/.5⌉ = ⌈2.77⌉ = 3."""
    method = CertifiedNoise(model_clip=1, gradient_clip=0.5, noise_lr=0.5, shrink=0)
    assert method.steps == 4
    assert replace(method, shrink=1).steps == 3


@pytest.mark.parametrize("shrink", [0.0, 0.7, 2.0, 10.0])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_noise_hides_all_of_the_distance_at_the_stated_price(shrink: float, steps: int) -> None:
    """Shifts a_t ∝ c^(T−t) leave no distance at the end, are never more than there is, and cost
    Σ α·a_t²/(2·σ²) = α·ε_R. No other shifts that hide all cost less, as random ones show."""
    method = CertifiedNoise(
        model_clip=3, gradient_clip=2, noise_lr=0.1, shrink=shrink, renyi=1.7, noise_steps=steps
    )
    kept, drift = 1 - 0.1 * shrink, 2 * 0.1 * 2
    weights = [kept ** (steps - t) for t in range(1, steps + 1)]
    apart = 2 * 3.0
    for _ in range(steps):
        apart = kept * apart + drift
    unit = apart / sum(weight**2 for weight in weights)
    shifts, distance, cost = [unit * weight for weight in weights], 6.0, 0.0
    for shift in shifts:
        distance = kept * distance + drift - shift
        assert distance >= -1e-12
        cost += shift**2 / (2 * method.sigma**2)
    assert distance == pytest.approx(0, abs=1e-12)
    assert cost == pytest.approx(1.7)
    generator = torch.Generator().manual_seed(steps)
    for _ in range(20):
        other = torch.rand(steps, generator=generator, dtype=torch.float64)
        hidden = sum(w * float(o) for w, o in zip(weights, other, strict=True))
        if hidden > 0:
            assert (
                float((other * apart / hidden).square().sum()) >= sum(s**2 for s in shifts) - 1e-9
            )


def test_one_step_clips_weights_then_the_gradient_then_shrinks() -> None:
    """W = (.1, −.1), norm .1·√24; C0 is half of it, so w = .05. q = 1/(1 + e^1.2), gradient −q,
    of norm q·√24 = 1.134; C1 = ½ makes it −½/√24. γ = .1, λ = 1: w = .05 + .1·(½/√24 − .05)."""
    problem = white_problem(0.1)
    method = replace(QUIET, model_clip=0.05 * math.sqrt(24), gradient_clip=0.5)
    records = unlearn(method, problem)
    expected = 0.05 + 0.1 * (0.5 / math.sqrt(24) - 0.05)
    assert weight_after(problem) == pytest.approx(expected, abs=1e-8)
    assert len(records) == 2  # the noisy step, and the epoch without noise
    assert records[0].losses == [pytest.approx(math.log(1 + math.exp(-1.2)))]
    assert records[1].notes["epsilon"] == method.epsilon
    assert records[1].notes["delta"] == 1e-5


def test_small_weights_and_gradients_are_left_as_they_are() -> None:
    """w = .05 + .1·(q − .05)."""
    problem = white_problem(0.05)
    unlearn(QUIET, problem)
    q = 1 / (1 + math.exp(1.2))
    assert weight_after(problem) == pytest.approx(0.05 + 0.1 * (q - 0.05), abs=1e-12)


def noise_of(method: CertifiedNoise) -> Tensor:
    """Return what noise added to the weights, divided by σ."""
    quiet, loud = white_problem(0.05), white_problem(0.05)
    unlearn(QUIET, quiet)
    unlearn(method, loud)
    return (loud.model.head.weight - quiet.model.head.weight).detach() / method.sigma


def test_the_noise_is_that_of_sigma_and_of_the_parameter() -> None:
    loud = replace(QUIET, renyi=1e3)
    names = (0, "certified_noise", 0, "head.weight")
    expected = normal_like(torch.empty(2, 12, dtype=torch.float64), *names)
    assert torch.allclose(noise_of(loud), expected, atol=1e-12)
    assert torch.allclose(noise_of(replace(QUIET, renyi=1e5)), expected, atol=1e-10)


def test_normal_numbers_are_normal_and_keyed_by_name() -> None:
    """100,000 numbers: mean 0 ± 4/√1e5, deviation 1 ± 4/√2e5; parts of them are not repeated."""
    one = normal_like(torch.empty(100_000), 0, "a")
    assert abs(float(one.mean())) < 0.013
    assert abs(float(one.std()) - 1) < 0.009
    assert torch.equal(one, normal_like(torch.empty(100_000), 0, "a"))
    for other in (normal_like(torch.empty(100_000), 1, "a"), normal_like(one, 0, "b")):
        assert abs(float((one * other).mean())) < 0.013
    large = normal_like(torch.empty((1 << 20) + 5), 0, "a")
    assert not torch.equal(large[-5:], large[:5])
    assert torch.equal(large[:100_000], one)


def test_steps_of_noise_go_on_over_passes() -> None:
    """Four retain rows in batches of 2: 5 steps are phases of 2, 2 and 1. With next to no gradient
    the weights move by σ times the noise of steps 0 … 4, each drawn anew."""
    problem = white_problem(roles="ffrrrr", batch_size=2)
    method = replace(QUIET, noise_steps=5, gradient_clip=1e-12, shrink=0, renyi=1e6)
    name, before = "head.weight", problem.original.head.weight
    moved = sum(normal_like(before, problem.seed, "certified_noise", i, name) for i in range(5))
    records = unlearn(method, problem)
    assert [len(record.losses) for record in records] == [2, 2, 1, 2]
    found = problem.model.head.weight.detach() - before
    assert torch.allclose(found, method.sigma * moved, rtol=1e-9)


def test_steps_of_fine_tuning_go_on_over_epochs() -> None:
    """Two epochs of two steps: the rates after 0, ¼, ½ and ¾ of a cycle."""
    problem = white_problem(roles="ffrrrr", batch_size=2)
    _, *epochs = replace(QUIET, epochs=2, lr=0.5).phases(problem)
    rates = [phase.optimizer.param_groups[0]["lr"] for phase in epochs for _ in phase.batches]
    assert rates == [one_cycle(step, 4, 0.5) for step in range(4)]


def test_batch_statistics_start_anew_after_the_noise() -> None:
    """They follow weights that were not noised, and would tell of D_f."""
    problem = white_problem()
    norm = nn.BatchNorm2d(3).double()
    problem.model = nn.Sequential(norm, linear())
    phases = QUIET.phases(problem)
    next(phases)
    norm.running_mean.fill_(7)
    next(phases)
    assert torch.equal(norm.running_mean, torch.zeros(3, dtype=torch.float64))
    assert torch.equal(norm.running_var, torch.ones(3, dtype=torch.float64))


def test_the_fine_tuning_rises_and_falls() -> None:
    """1/25 at first, all of it at .3, 1/25 at .85, 1/250,000 at last; half-way to .3 it is .52."""
    rates = [0.04, 0.52, 1, 0.04, 4e-6, 4e-6]
    steps = [0, 15, 30, 85, 100, 101]
    assert [one_cycle(step, 100, 1.0) for step in steps] == pytest.approx(rates)
    assert one_cycle(15, 100, 0.5) == pytest.approx(0.26)


def test_weights_are_clipped_together() -> None:
    """(3, 4) in two parameters, clipped to 1: (.6, .8); to 10: as they are."""
    model = nn.Linear(1, 1)
    for most, expected in ((10.0, (3.0, 4.0)), (1.0, (0.6, 0.8))):
        nn.init.constant_(model.weight, 3)
        nn.init.constant_(model.bias, 4)
        clip_weights(model, most)
        found = [float(value.detach()) for value in model.parameters()]
        assert found == pytest.approx(expected)


def test_settings_that_prove_nothing_are_refused() -> None:
    for name in ("model_clip", "gradient_clip", "noise_lr", "renyi", "delta"):
        with pytest.raises(MethodError, match=name):
            CertifiedNoise(**{name: 0})
    with pytest.raises(MethodError, match="at most 1"):
        CertifiedNoise(noise_lr=0.2, shrink=6)
