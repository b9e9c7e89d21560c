"""JiT against weights derived by hand: two classes, gray images of 12 equal features."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.jit import Jit
from lotus_ray.unlearning.problem import Problem
from tests.toy import batch_of, make_dataset, make_problem, make_roles
from tests.unlearning.methods.test_one_step import linear

GRAY = 102 / 255  # of a pixel 102


def gray_problem(forget: int = 1, weight: float = 0.5) -> Problem:
    """Return a problem of gray images; W = (w, −w) in every feature."""
    roles = make_roles("f" * forget + "r", [0] * forget + [1], 2)
    pixels = torch.full((forget + 1, 3, 2, 2), 102, dtype=torch.uint8)
    return make_problem(linear(weight), make_dataset(pixels, roles))


def noise_of(problem: Problem, method: Jit, copy: int) -> Tensor:
    """Return ξ [N, 12] of the first pass."""
    [batch] = problem.forget.shuffled(200, "any")
    return (method.noisy(problem, batch, 0, copy) - batch.images).flatten(1)


def test_one_step_goes_against_the_slope_through_the_clean_side_alone() -> None:
    """f(x) − f(x + ξ) = −(s, −s)·½ with s = Σξ: norm |s|/√2, loss |s|/(√2·‖ξ‖).

    The gradient to f(x) is −sign(s)·(1, −1)/√2 /‖ξ‖, and to W that times x = .4 in each feature:
    w = ½ + .1·sign(s)·.4/(√2·‖ξ‖). Through both sides it would be Σξ instead: far less.
    """
    problem, method = gray_problem(), Jit(lr=0.1, copies=1)
    noise = noise_of(problem, method, 0)[0]
    total, size = float(noise.sum()), float(noise.norm())
    records = unlearn(method, problem)
    assert records[0].losses == [pytest.approx(abs(total) / (math.sqrt(2) * size))]
    moved = 0.1 * math.copysign(GRAY / (math.sqrt(2) * size), total)
    found = problem.model.head.weight.detach()
    assert torch.allclose(found[0], torch.full((12,), 0.5 + moved, dtype=torch.float64))
    assert torch.allclose(found[1], -found[0])


def test_copies_and_images_are_averaged() -> None:
    """Three images, two copies: the loss is the mean of the six slopes |Σξ|/(√2·‖ξ‖)."""
    problem, method = gray_problem(forget=3), Jit(copies=2)
    noises = torch.cat([noise_of(problem, method, copy) for copy in range(2)])
    slopes = noises.sum(dim=1).abs() / (math.sqrt(2) * noises.norm(dim=1))
    records = unlearn(method, problem)
    assert records[0].losses == [pytest.approx(float(slopes.mean()))]


def test_noise_has_the_deviation_and_belongs_to_the_sample() -> None:
    """2,400 values: the deviation of .01 is known to .01/√4800 = 1.4e-4. Rows, copies and passes
    differ; a sample's noise does not depend on its neighbours in the batch."""
    problem, method = gray_problem(forget=200), Jit()
    dataset = problem.forget.dataset  # type: ignore[attr-defined]
    both = method.noisy(problem, batch_of(dataset, [0, 1]), 0, 0)
    alone = method.noisy(problem, batch_of(dataset, [1]), 0, 0)
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0], both[1])
    for names in ((0, 1), (1, 0)):
        assert not torch.equal(method.noisy(problem, batch_of(dataset, [1]), *names), alone)
    assert abs(float(noise_of(problem, method, 0).std()) - 0.01) < 6e-4


def test_noise_stays_within_the_range_of_pixels() -> None:
    """With σ = 9 nearly all values are clamped to black or white, ‖ξ‖ is what is left."""
    problem = gray_problem(forget=50)
    [batch] = problem.forget.shuffled(200, "any")
    noisy = Jit(sigma=9.0).noisy(problem, batch, 0, 0)
    assert 0 <= float(noisy.min()) <= float(noisy.max()) <= 1


class Dropping(nn.Module):
    """A linear model with dropout and batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(12, 2))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images)
        return logits


def test_the_network_is_in_eval_mode() -> None:
    """Statistics stay, and without noise to speak of the loss is the slope, not that of dropout."""
    problem = gray_problem(forget=4)
    problem.model = Dropping().double()
    records = unlearn(Jit(lr=0, sigma=1e-6, copies=2), problem)
    assert torch.equal(problem.model.head[0].running_mean, torch.zeros(3, dtype=torch.float64))
    assert records[0].losses[0] < 10


def test_momentum_of_one_adds_up_gradients_as_the_authors_do() -> None:
    """Two batches: θ₂ = θ₀ − lr·(2·g₁ + g₂), where zeroed gradients give θ₀ − lr·(g₁ + g₂)."""
    moved = []
    for momentum in (0.0, 1.0):
        problem = gray_problem(forget=2)
        problem.batch_size = 1
        unlearn(Jit(lr=1e-9, momentum=momentum, copies=1), problem)
        moved.append(problem.model.head.weight.detach()[0, 0] - 0.5)
    first = gray_problem(forget=2)
    first.batch_size = 1
    [phase] = Jit(lr=1e-9, copies=1).phases(first)
    phase.loss(first.model, next(iter(phase.batches))).backward()
    extra = -1e-9 * first.model.head.weight.grad[0, 0]
    assert float(moved[1] - moved[0]) == pytest.approx(float(extra), rel=1e-4)
