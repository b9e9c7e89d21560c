from __future__ import annotations

import pytest
import torch

from lotus_ray.engine import unlearn
from lotus_ray.errors import MethodError
from lotus_ray.methods.gold import Gold
from lotus_ray.methods.original import Original
from tests.toy import Linear, blobs, make_problem, make_roles, make_warm

ROLES = make_roles("f" * 4 + "r" * 8 + "u" * 2 + "t" * 2, [i % 2 for i in range(16)], 2)


def test_learning_rate_warms_up_then_decays_to_zero() -> None:
    """lr 1, 6 epochs, 2 of warm-up: ½, 1, then (6 − e)/4 for e = 2 … 5."""
    recipe = Original(epochs=6, lr=1.0, warmup_epochs=2)
    assert [recipe.learning_rate(epoch) for epoch in range(6)] == [0.5, 1, 1, 0.75, 0.5, 0.25]


def test_original_without_epochs_is_a_no_op() -> None:
    model = Linear(12, 2)
    torch.nn.init.ones_(model.head.weight)
    problem = make_problem(model, make_warm(blobs(16, 2), ROLES))
    assert unlearn(Original(), problem) == []
    assert torch.equal(problem.model.head.weight, problem.original.head.weight)


def test_gold_starts_afresh_and_never_sees_the_forget_set() -> None:
    """Starting from ones, gold equals a gold run that starts from zeros: it begins anew."""
    trained = Linear(12, 2)
    torch.nn.init.ones_(trained.head.weight)
    warm = make_warm(blobs(16, 2), ROLES)
    seen: set[int] = set()
    weights = []
    for start in (trained, Linear(12, 2)):
        problem = make_problem(start, warm, initial_model=lambda seed: Linear(12, 2).double())
        for phase in Gold(epochs=2, lr=0.1).phases(problem):
            seen |= {int(row) for batch in phase.batches for row in batch.rows}
        unlearn(Gold(epochs=2, lr=0.1), problem)
        weights.append(problem.model.head.weight.detach().clone())
    assert seen == set(range(4, 12))
    assert torch.equal(weights[0], weights[1])


def test_original_sees_forget_and_retain_set() -> None:
    problem = make_problem(Linear(12, 2), make_warm(blobs(16, 2), ROLES))
    phase = next(Original(epochs=1).phases(problem))
    assert {int(row) for batch in phase.batches for row in batch.rows} == set(range(12))


@pytest.mark.parametrize(
    "wrong", [{"optimizer": "sdg"}, {"epochs": -1}, {"epochs": 2, "warmup_epochs": 3}]
)
def test_wrong_recipe_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(MethodError):
        Original(**wrong)  # type: ignore[arg-type]
