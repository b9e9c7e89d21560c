from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import pytest
import torch
from torch import nn

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.contract import Phase, SampleSet
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.method import Method
from lotus_ray.unlearning.methods.gold import Gold
from lotus_ray.unlearning.methods.original import Original
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, blobs, make_dataset, make_problem, make_roles

ROLES = make_roles("f" * 4 + "r" * 8 + "u" * 2 + "t" * 2, [i % 2 for i in range(16)], 2)


def test_learning_rate_warms_up_then_decays_to_zero() -> None:
    """lr 1, 6 epochs, 2 of warm-up: ½, 1, then (6 − e)/4 for e = 2 … 5."""
    recipe = Original(epochs=6, lr=1.0, warmup_epochs=2)
    assert [recipe.learning_rate(epoch) for epoch in range(6)] == [0.5, 1, 1, 0.75, 0.5, 0.25]
    recipe = replace(recipe, decay="none")
    assert [recipe.learning_rate(epoch) for epoch in range(6)] == [0.5, 1, 1, 1, 1, 1]


def test_original_without_epochs_is_a_no_op() -> None:
    model = Linear(12, 2)
    torch.nn.init.ones_(model.head.weight)
    problem = make_problem(model, make_dataset(blobs(16, 2), ROLES))
    assert unlearn(Original(), problem) == []
    assert torch.equal(problem.model.head.weight, problem.original.head.weight)


def test_gold_starts_afresh_and_never_sees_the_forget_set() -> None:
    """Starting from ones, gold equals a gold run that starts from zeros: it begins anew."""
    trained = Linear(12, 2)
    torch.nn.init.ones_(trained.head.weight)
    dataset = make_dataset(blobs(16, 2), ROLES)
    seen: set[int] = set()
    weights = []
    for start in (trained, Linear(12, 2)):
        problem = make_problem(start, dataset, initial_model=lambda seed: Linear(12, 2).double())
        for phase in Gold(epochs=2, lr=0.1).phases(problem):
            seen |= {int(row) for batch in phase.batches for row in batch.rows}
        unlearn(Gold(epochs=2, lr=0.1), problem)
        weights.append(problem.model.head.weight.detach().clone())
    assert seen == set(range(4, 12))
    assert torch.equal(weights[0], weights[1])


def test_original_sees_forget_and_retain_set() -> None:
    problem = make_problem(Linear(12, 2), make_dataset(blobs(16, 2), ROLES))
    phase = next(Original(epochs=1).phases(problem))
    assert {int(row) for batch in phase.batches for row in batch.rows} == set(range(12))


class Answers:
    """The losses on the unseen set that a recipe is told, one after another."""

    def __init__(self, problem: Problem, *losses: float) -> None:
        self.left = list(losses)
        problem.loss = lambda model, split: self.left.pop(0)  # type: ignore[method-assign]


def test_training_stops_after_patience_and_the_best_weights_are_a_copy() -> None:
    """Losses 3, 1, 2, 1: epoch 1 is best, epochs 2 and 3 are no better, epoch 4 never begins."""
    dataset = make_dataset(blobs(16, 2), ROLES)
    problem = make_problem(Linear(12, 2), dataset)
    answers = Answers(problem, 3.0, 1.0, 2.0, 1.0, 0.0)
    records = unlearn(Original(epochs=9, lr=0.1, batch_size=4, patience=2), problem)
    assert len(records) == 4
    assert answers.left == [0.0]

    best = make_problem(Linear(12, 2), dataset)
    phases = Original(epochs=9, lr=0.1, batch_size=4).phases(best)
    unlearn(First(2, phases), best)
    assert torch.equal(problem.model.head.weight, best.model.head.weight)


def test_a_class_that_is_not_trained_on_is_not_watched() -> None:
    """Forget class 0: gold is judged by the unseen samples of class 1, the original by all."""
    labels = [0] * 4 + [1] * 8 + [0, 1, 0, 1]
    roles = make_roles("f" * 4 + "r" * 8 + "u" * 2 + "t" * 2, labels, 2)
    for method, expected in ((Gold, {13}), (Original, {12, 13})):
        problem = make_problem(Linear(12, 2), make_dataset(blobs(16, 2), roles))
        watched: list[set[int]] = []

        def loss(model: nn.Module, split: SampleSet, seen: list[set[int]] = watched) -> float:
            seen.append({int(row) for batch in split for row in batch.rows})
            return 0.0

        problem.loss = loss  # type: ignore[method-assign]
        unlearn(method(epochs=2, patience=5), problem)
        assert watched == [expected, expected]


def test_patience_without_an_unseen_image_to_watch_is_refused() -> None:
    """The loss of nothing is NaN, which is never lower: training would stop after `patience`."""
    roles = make_roles("f" * 4 + "r" * 8 + "t" * 4, [place % 2 for place in range(16)], 2)
    problem = make_problem(Linear(12, 2), make_dataset(blobs(16, 2), roles))
    with pytest.raises(MethodError, match="no unseen image is of a class that is trained on"):
        unlearn(Original(epochs=9, lr=0.1, patience=2), problem)
    assert len(unlearn(Original(epochs=4, lr=0.1), problem)) == 4


def test_without_patience_the_last_weights_stay() -> None:
    problem = make_problem(Linear(12, 2), make_dataset(blobs(16, 2), ROLES))
    Answers(problem)  # it is never asked
    assert len(unlearn(Original(epochs=5, lr=0.1), problem)) == 5


@dataclass(frozen=True)
class First(Method):
    """Only the first phases of a run."""

    count: int
    inner: Iterator[Phase]

    def phases(self, problem: Problem) -> Iterator[Phase]:
        return islice(self.inner, self.count)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_padding": -1},
        {"optimizer": "sdg"},
        {"decay": "liner"},
        {"epochs": -1},
        {"epochs": 2, "warmup_epochs": 3},
    ],
)
def test_wrong_recipe_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(MethodError):
        Original(**wrong)  # type: ignore[arg-type]
