"""l1-sparse: two steps by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.l1_sparse import L1Sparse
from tests.toy import Linear, make_dataset, make_problem, make_roles
from tests.toy_convolution import WHITE


def problem(weight: float):  # type: ignore[no-untyped-def]
    """Return one white forget image of class 1 and one white retain image of class 0."""
    model = Linear(12, 2).double()
    with torch.no_grad():
        model.head.weight[0], model.head.weight[1] = weight, -weight
    dataset = make_dataset(torch.stack([WHITE, WHITE]), make_roles("fr", [1, 0], 2))
    return make_problem(model, dataset)


def test_the_penalty_pulls_towards_zero_and_decays_linearly() -> None:
    """W = (w, −w) with w = ln 3 / 24: s(12 w, −12 w) = (¾, ¼), CE pulls w up by ¼, γ = .1 down.

    Loss: −ln ¾ + .1·24·w. lr .1: w₁ = w + .1·(¼ − .1). In the second of two epochs γ is .05:
    w₂ = w₁ + .1·(p − .05) with p = 1/(1 + e^(24 w₁)). Signs of W are (+, −) in both rows.
    """
    start = math.log(3) / 24
    stage = problem(start)
    records = unlearn(L1Sparse(epochs=2, lr=0.1, momentum=0, weight_decay=0, gamma=0.1), stage)
    first = start + 0.1 * (0.25 - 0.1)
    second = first + 0.1 * (1 / (1 + math.exp(24 * first)) - 0.05)
    expected = torch.tensor([[second] * 12, [-second] * 12], dtype=torch.float64)
    assert torch.allclose(stage.model.head.weight, expected, atol=1e-15)
    assert records[0].losses == [pytest.approx(-math.log(0.75) + 0.1 * math.log(3), abs=1e-14)]
    assert [record.notes["gamma"] for record in records] == [0.1, 0.05]


def test_a_weight_of_zero_is_not_pulled() -> None:
    """sign(0) = 0: the first step is that of Finetuning, lr·½."""
    stage = problem(0.0)
    unlearn(L1Sparse(epochs=1, lr=0.1, momentum=0, weight_decay=0, gamma=0.3), stage)
    assert torch.allclose(stage.model.head.weight[0], torch.tensor(0.05).double(), atol=1e-9)
