"""DELETE: one step by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.losses import without_label
from lotus_ray.unlearning.methods.delete import Delete
from tests.toy import Linear, make_dataset, make_problem, make_roles
from tests.toy_convolution import WHITE


def test_one_step_by_hand() -> None:
    """Logits of a white image: (ln 4, ln 2, 0), s = (4, 2, 1)/7. Label 0: q = (0, ⅔, ⅓).

    KL(q ‖ s) = ⅔·ln(⅔·7/2) + ⅓·ln(⅓·7) = ln(7/3). The gradient is s − q in each of 12 features:
    4/7, 2/7 − ⅔ = −8/21, 1/7 − ⅓ = −4/21. The retain image plays no part.
    """
    rows = torch.tensor([math.log(4), math.log(2), 0.0], dtype=torch.float64) / 12
    model = Linear(12, 3).double()
    with torch.no_grad():
        model.head.weight.copy_(rows[:, None].expand(3, 12))
    dataset = make_dataset(torch.stack([WHITE, WHITE]), make_roles("fr", [0, 1], 3))
    stage = make_problem(model, dataset)
    records = unlearn(Delete(epochs=1, lr=0.1), stage)
    assert records[0].losses == [pytest.approx(math.log(7 / 3), abs=1e-14)]
    gradient = torch.tensor([4 / 7, -8 / 21, -4 / 21], dtype=torch.float64)
    expected = (rows - 0.1 * gradient)[:, None].expand(3, 12)
    assert torch.allclose(stage.model.head.weight, expected, atol=1e-15)


def test_the_original_answers_once_for_each_forget_image() -> None:
    roles = make_roles("f" * 5 + "r" * 3, [0, 1] * 4, 2)
    stage = make_problem(Linear(12, 2), make_dataset(WHITE.expand(8, 3, 2, 2), roles), 2)
    asked: list[int] = []
    stage.original.register_forward_hook(lambda module, args, out: asked.append(len(out)))
    records = unlearn(Delete(epochs=4), stage)
    assert sum(asked) == 5
    assert [len(record.losses) for record in records] == [3] * 4


def test_a_class_that_is_ruled_out_is_never_the_answer() -> None:
    logits = torch.tensor([[9.0, 1.0, 2.0], [-5.0, -6.0, -7.0]])
    others = without_label(logits, torch.tensor([0, 2]))
    assert others.argmax(dim=1).tolist() == [2, 0]
    assert others.softmax(dim=1)[[0, 1], [0, 2]].tolist() == [0.0, 0.0]
    assert logits[0, 0] == 9
