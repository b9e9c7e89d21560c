from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.finetune import Finetune
from tests.toy import Linear, make_dataset, make_problem, make_roles


def test_one_step_by_hand() -> None:
    """A linear model W = 0 on white (x = 1, 12 features) and black (x = 0) retain images.

    p = (½, ½) for both. Row gradients (p − y)·xᵀ: the white image of class 0 gives
    (−½, +½)·1, the black one nothing; the mean over two rows is (−¼, +¼) in every feature.
    One SGD step of lr 0.1, weight decay on W = 0 adding nothing: W = (+0.025, −0.025).
    The forget rows (white, class 1) play no part.
    """
    white, black = torch.full((3, 2, 2), 255), torch.zeros(3, 2, 2)
    pixels = torch.stack([white, white, white, black]).to(torch.uint8)
    roles = make_roles("ffrr", [1, 1, 0, 1], 2)
    problem = make_problem(Linear(12, 2), make_dataset(pixels, roles))
    records = unlearn(Finetune(epochs=1, lr=0.1), problem)
    assert records[0].losses == [pytest.approx(0.6931471805599453)]
    expected = torch.tensor([[0.025] * 12, [-0.025] * 12], dtype=torch.float64)
    assert torch.allclose(problem.model.head.weight, expected, atol=1e-15)


def test_momentum_and_weight_decay_by_hand() -> None:
    """Retain: one white image of class 0; W = 0, lr 0.1, momentum 0.5, decay 0.1, two steps.

    Step 1: g = (−½, +½), v = g, W = (0.05, −0.05) in each of 12 features.
    Step 2: z = 12·(0.05, −0.05) = (0.6, −0.6), p_1 = 1/(1 + e^1.2) = 0.2314752165009824,
    g = (−p_1, p_1) + 0.1·W = (−0.2264752165009824, +…), v = 0.5·(−0.5) + g =
    −0.4764752165009824, W = 0.05 + 0.04764752165009824 = 0.09764752165009824.
    """
    pixels = torch.full((2, 3, 2, 2), 255).to(torch.uint8)
    problem = make_problem(Linear(12, 2), make_dataset(pixels, make_roles("fr", [1, 0], 2)))
    unlearn(Finetune(epochs=2, lr=0.1, momentum=0.5, weight_decay=0.1), problem)
    row = torch.full((12,), 0.09764752165009824, dtype=torch.float64)
    assert torch.allclose(problem.model.head.weight, torch.stack([row, -row]), atol=1e-15)


class HeadFirst(nn.Module):
    """Registers its head first: the last linear layer is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 2)
        self.body = nn.Linear(12, 12)

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.head(self.body(images.flatten(1)))
        return answer


def test_head_only_trains_the_layer_that_makes_the_logits() -> None:
    pixels = torch.full((2, 3, 2, 2), 255).to(torch.uint8)
    problem = make_problem(HeadFirst(), make_dataset(pixels, make_roles("fr", [1, 0], 2)))
    unlearn(Finetune(epochs=1, lr=0.1, head_only=True), problem)
    before = dict(problem.original.named_parameters())
    moved = {n for n, v in problem.model.named_parameters() if not torch.equal(v, before[n])}
    assert moved == {"head.weight", "head.bias"}
