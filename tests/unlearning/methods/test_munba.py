"""MUNBa against weights derived by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.munba import Munba, bargain
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, make_dataset, make_problem, make_roles
from tests.unlearning.methods.test_one_step import WHITE


def closed_form(a: float, b: float, c: float) -> tuple[float, float]:
    """Return α₁ and α₂ as the paper writes them; b must not be 0."""
    first = math.sqrt((a * c - b * math.sqrt(a * c)) / (a * a * c - a * b * b))
    return first, (1 - a * first**2) / (b * first)


@pytest.mark.parametrize(("a", "b", "c"), [(4, 1, 9), (4, -5, 9), (1e-6, 1e-4, 1), (3, 1e-3, 3)])
def test_the_bargain_is_the_papers_and_solves_its_equations(a: float, b: float, c: float) -> None:
    """a = 4, b = 1, c = 9: √(ac) = 6, α₁ = ½/√(7/6) = 0.4629100498862757, α₂ = 2/3 of it."""
    one, other = bargain(a, b, c)
    assert (one, other) == pytest.approx(closed_form(a, b, c), rel=1e-9)
    assert a * one**2 + b * one * other == pytest.approx(1)
    assert c * other**2 + b * one * other == pytest.approx(1)
    if (a, b) == (4, 1):
        assert (one, other) == pytest.approx((0.4629100498862757, 0.30860669992418377))


def test_orthogonal_gradients_are_each_normalised() -> None:
    """b → 0: 1/√a and 1/√c, where the paper's form divides 0 by 0."""
    assert bargain(4, 0, 9) == (0.5, pytest.approx(1 / 3))
    assert bargain(4, 1e-13, 9) == pytest.approx((0.5, 1 / 3))


def test_there_is_no_bargain_without_a_gradient_or_with_opposed_ones() -> None:
    assert bargain(0, 0, 9) is None
    assert bargain(4, 0, 0) is None
    assert bargain(4, -6, 9) is None
    assert bargain(math.nan, 1, 9) is None


def one_pair(labels: list[int], roles: str = "fr", workers: Workers | None = None) -> Problem:
    """Return a problem of white images and a model W = 0 of four classes."""
    roles_of = make_roles(roles, labels, 4)
    dataset = make_dataset(WHITE.expand(len(roles), 3, 2, 2), roles_of, workers)
    return make_problem(Linear(12, 4).double(), dataset)


def random_label(problem: Problem, epoch: int = 0) -> int:
    """Return the label that the method draws for the only forget row."""
    [batch] = problem.forget.shuffled(100, "any")
    return int(problem.uniform(batch, 1, "munba", epoch)[0, 0] * 4)


def test_one_step_is_that_of_the_bargain() -> None:
    """W = 0, p = ¼ of four classes. A row of class y gives feature j of class k ¼ − [k = y].

    Retain y and random label l ≠ y: a = c = 12·(¾² + 3·¼²) = 9, b = 12·(2·¼² − 2·¾·¼) = −3.
    α₁ = α₂ = 1/√(a + b) = 1/√6. The combined gradient is (½ − [k = y] − [k = l])/√6, of norm
    √(12·4·¼/6) = √2 > 1: clipped it is (½ − [k = y] − [k = l])/√12. The loss is ln 4.
    """
    problem = one_pair([0, 1])
    label = random_label(problem)
    assert label != 1
    records = unlearn(Munba(epochs=1, lr=0.1, momentum=0, weight_decay=0), problem)
    gradient = torch.full((4,), 0.5, dtype=torch.float64)
    gradient[[1, label]] -= 1
    expected = (-0.1 * gradient / math.sqrt(12))[:, None].expand(4, 12)
    assert torch.allclose(problem.model.head.weight.detach(), expected, atol=1e-7)
    assert records[0].losses == [pytest.approx(math.log(4))]
    assert records[0].notes == {"failed_bargains": 0}


def test_where_all_gradients_agree_the_step_is_that_of_one() -> None:
    """Retain class = random label: a = b = c = 9, α = 1/√18 each, combined 2/√18·g, norm √2."""
    label = random_label(one_pair([0, 1]))
    problem = one_pair([0, label])
    unlearn(Munba(epochs=1, lr=0.1, momentum=0, weight_decay=0, max_norm=10), problem)
    gradient = torch.full((4,), 0.25, dtype=torch.float64)
    gradient[label] -= 1
    expected = (-0.1 * 2 / math.sqrt(18) * gradient)[:, None].expand(4, 12)
    assert torch.allclose(problem.model.head.weight.detach(), expected, atol=1e-14)


def test_a_failed_bargain_takes_the_authors_weights() -> None:
    """A black forget row has no gradient: 1·g_r + .1·0, of norm 3, clipped to 1; a note says so."""
    pixels = torch.stack([torch.zeros_like(WHITE), WHITE])
    problem = make_problem(
        Linear(12, 4).double(), make_dataset(pixels, make_roles("fr", [0, 1], 4))
    )
    records = unlearn(Munba(epochs=1, lr=0.1, momentum=0, weight_decay=0), problem)
    assert records[0].notes == {"failed_bargains": 1}
    gradient = torch.full((4,), 0.25, dtype=torch.float64)
    gradient[1] -= 1
    expected = (-0.1 * gradient / 3)[:, None].expand(4, 12)
    assert torch.allclose(problem.model.head.weight.detach(), expected, atol=1e-7)


def test_batches_without_a_forget_batch_train_on_the_retain_set_unclipped() -> None:
    """Two batches of D_r, one of D_f: the second step is .1·g_r whole, at the weights then."""
    problem = one_pair([0, 1, 1], "frr")
    problem.batch_size = 1
    [phase] = Munba(epochs=1, lr=0.1, momentum=0, weight_decay=0).phases(problem)
    steps = list(phase.batches)
    assert [forgotten is not None for _, forgotten in steps] == [True, False]
    phase.loss(problem.model, steps[1]).backward()
    before = problem.model.head.weight.grad.clone()
    phase.edit_gradients(problem.model)
    assert torch.equal(problem.model.head.weight.grad, before)
    assert float(before.norm()) == pytest.approx(3)


def test_forget_batches_beyond_the_last_retain_batch_are_left_out() -> None:
    problem = one_pair([0, 0, 0, 1], "fffr")
    problem.batch_size = 1
    [phase] = Munba(epochs=1).phases(problem)
    assert len(list(phase.batches)) == 1


def test_random_labels_take_every_class_and_change_with_the_epoch() -> None:
    problem = one_pair([0] * 400 + [1], "f" * 400 + "r")
    [batch] = problem.forget.shuffled(400, "any")
    drawn = [(problem.uniform(batch, 1, "munba", e)[:, 0] * 4).long() for e in range(2)]
    assert all(60 < count < 140 for count in torch.bincount(drawn[0], minlength=4).tolist())
    assert not torch.equal(drawn[0], drawn[1])
