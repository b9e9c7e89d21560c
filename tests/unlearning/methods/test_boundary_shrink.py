"""Boundary Shrink: labels and one step by hand.

Pixels p are normalised to (p/255 − ½)/¼: black is −2, white is 2. Every feature of W is (1, ½, −1),
so that the logits are (1, ½, −1)·S for S the sum of an image: the first class wins where S > 0, the
last one where S < 0.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lotus_ray.data.pixels.transform import Transform
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.boundary_shrink import BoundaryShrink, nearest_labels
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, make_dataset, make_problem, make_roles

HALF = (0.5, 0.5, 0.5)
QUARTER = (0.25, 0.25, 0.25)
TRANSFORM = Transform(img_size=2, mean=HALF, std=QUARTER)
ROWS = torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64)


def problem(levels: list[int], labels: list[int], batch_size: int = 100) -> Problem:
    """Return forget images of one grey level each, and one retain image."""
    pixels = torch.tensor([*levels, 255], dtype=torch.uint8)[:, None, None, None]
    roles = make_roles("f" * len(levels) + "r", [*labels, 0], 3)
    model = Linear(12, 3).double()
    with torch.no_grad():
        model.head.weight.copy_(ROWS[:, None].expand(3, 12))
    dataset = make_dataset(pixels.expand(-1, 3, 2, 2).clone(), roles, transform=TRANSFORM)
    return make_problem(model, dataset, batch_size)


def labels_of(stage: Problem, epsilon: float) -> list[int]:
    found: Tensor = nearest_labels(stage, epsilon)
    return found[: len(stage.forget)].tolist()


def test_epsilon_is_a_part_of_the_way_from_black_to_white() -> None:
    """Level 140 is .196, class 0. The attack lowers it by ε·4 = .4 to −.204: the last class.

    .1 in normalised units would give .096, class 0 still, and then the runner-up, class 1.
    """
    assert labels_of(problem([140], [0]), 0.1) == [2]
    assert labels_of(problem([140], [0]), 0.025) == [1]


def test_a_failed_attack_gives_the_runner_up_and_not_the_own_label() -> None:
    """A black image of class 2 gets lighter, from −2 to −1.6, and its answer stays: logits are
    (−19.2, −9.6, 19.2), so class 1. A white one of class 0 turns to 1.6: class 1 as well."""
    assert labels_of(problem([0, 255], [2, 0]), 0.1) == [1, 1]


def test_attacked_pixels_stay_between_black_and_white() -> None:
    """A white image of class 2 is on the wrong side; the attack would move it beyond white.

    Clamped it answers (24, 12, −24): class 0. The call sees no pixel above 2.
    """
    stage = problem([255], [2])
    seen: list[float] = []
    stage.original.register_forward_hook(
        lambda module, args, out: seen.append(float(args[0].detach().max()))
    )
    assert labels_of(stage, 0.1) == [0]
    assert seen == [pytest.approx(2)] * 2


def test_one_step_by_hand() -> None:
    """The image at .19608 in every feature goes to class 2; the gradient is (s − e₂)·x."""
    stage = problem([140], [0])
    unlearn(BoundaryShrink(epochs=1, lr=0.1), stage)
    x = (140 / 255 - 0.5) / 0.25
    powers = [2.718281828459045 ** (12 * x * row) for row in ROWS.tolist()]
    softmax = torch.tensor(powers, dtype=torch.float64) / sum(powers)
    step = softmax - torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    expected = (ROWS - 0.1 * x * step)[:, None].expand(3, 12)
    assert torch.allclose(stage.model.head.weight, expected, atol=1e-14)


def test_each_image_is_attacked_once_in_batches_no_larger_than_a_step() -> None:
    """Two calls of the original for each of 5 images, whatever the epochs: parts of 2, 2 and 1."""
    stage = problem([140] * 5, [0] * 5, batch_size=2)
    asked: list[int] = []
    stage.original.register_forward_hook(lambda module, args, out: asked.append(len(out)))
    unlearn(BoundaryShrink(epochs=3), stage)
    assert asked == [2, 2, 2, 2, 1, 1]
