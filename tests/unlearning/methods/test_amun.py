"""AMUN against numbers derived by hand."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from lotus_ray.data.pixels.transform import Transform
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.adversarial import Examples, nearest_examples
from lotus_ray.unlearning.methods.amun import Amun
from lotus_ray.unlearning.problem import Problem
from tests.toy import PLAIN, Linear, make_dataset, make_problem, make_roles
from tests.unlearning.methods.test_one_step import weight_after, white_problem

NORMALISED = Transform(img_size=2, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1))


def halves(scale: Tensor) -> Linear:
    """Return a model: class 0 has the sum of the first six pixels, class 1 that of the others.

    `scale` [3] turns the network's input back into pixels.
    """
    model = Linear(12, 2).double()
    by_pixel = scale.double().repeat_interleave(4)
    with torch.no_grad():
        model.head.weight[0, :6], model.head.weight[1, 6:] = by_pixel[:6], by_pixel[6:]
    return model


def halves_problem(transform: Transform = PLAIN, workers: Workers | None = None) -> Problem:
    """Return four forget images: .6 and .4, by halves, and the other way round; labels 0 and 1."""
    one = torch.tensor([153] * 6 + [102] * 6, dtype=torch.uint8).view(3, 2, 2)
    other = torch.tensor([102] * 6 + [153] * 6, dtype=torch.uint8).view(3, 2, 2)
    roles = make_roles("ffffr", [0, 1, 0, 1, 0], 2)
    dataset = make_dataset(
        torch.stack([one, other, one, other, one]), roles, workers, transform=transform
    )
    model = halves(torch.tensor(transform.std))
    return make_problem(model, dataset)


@pytest.mark.parametrize("transform", [PLAIN, NORMALISED])
def test_the_radius_doubles_until_the_original_errs(transform: Transform) -> None:
    """The border is .1·√12 = .3464 away: each pixel has .1 to go.

    r = .04, .08, .16 and .32 end on their spheres. At r = .64 a step is .064: .32 + .064 = .384
    is the first point beyond the border, so pixels are .6 − .384/√12 and .4 + .384/√12.
    Distances are those of pixels, whatever the network's input.
    """
    problem = halves_problem(transform)
    if transform is NORMALISED:  # the means of the halves shift the logits: give them back
        shift = torch.tensor(transform.mean, dtype=torch.float64).repeat_interleave(4)
        weight = problem.original.head.weight
        scaled = shift / torch.tensor(transform.std, dtype=torch.float64).repeat_interleave(4)
        bias = (weight * scaled).sum(dim=1)
        problem.original.head.bias = torch.nn.Parameter(bias, requires_grad=False)
    found = nearest_examples(problem, 0.04, 50)
    black, white = problem.pixel_range
    pixels = ((found.images - black) / (white - black)).flatten(1)
    moved = 0.384 / math.sqrt(12)
    assert found.labels.tolist() == [1, 0, 1, 0]
    first = torch.tensor([0.6 - moved] * 6 + [0.4 + moved] * 6, dtype=torch.float64)
    assert torch.allclose(pixels[0], first, atol=1e-9)
    assert torch.allclose(pixels[1], 1 - first, atol=1e-9)
    assert torch.equal(found.keys, next(iter(problem.forget)).keys)


def test_every_worker_gets_the_examples_of_all() -> None:
    """Two workers, each in a thread, that add up what both hand over."""
    alone = nearest_examples(halves_problem(), 0.04, 50)
    shared: list[list[Tensor]] = [[], []]
    barrier = threading.Barrier(2)

    def summing(rank: int) -> Callable[[Tensor], Tensor]:
        def add(value: Tensor) -> Tensor:
            shared[rank].append(value.clone())  # its owner may change it
            barrier.wait(60)
            call = len(shared[rank]) - 1
            return shared[0][call] + shared[1][call]

        return add

    def run(rank: int) -> Examples:
        return nearest_examples(halves_problem(workers=Workers(rank, 2, summing(rank))), 0.04, 50)

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(run, range(2)):
            assert torch.allclose(found.images, alone.images, atol=1e-12)
            assert torch.equal(found.labels, alone.labels)
            assert torch.equal(found.keys, alone.keys)


def test_an_image_that_is_wrong_already_is_its_own_example() -> None:
    """One step: w = .05, D_f is white of class 1, which f₀ takes for 0: D_a is white of class 0.

    With q = 1/(1 + e^1.2), of six rows four pull by −q (D_r, D_a) and two by 1 − q (D_f):
    w = .05 − .1·(2 − 6q)/6. Loss: (4·ln(1 + e^−1.2) + 2·ln(1 + e^1.2))/6.
    """
    problem = white_problem(0.05)
    records = unlearn(Amun(epochs=1, lr=0.1, momentum=0, weight_decay=0), problem)
    q = 1 / (1 + math.exp(1.2))
    loss = (4 * math.log(1 + math.exp(-1.2)) + 2 * math.log(1 + math.exp(1.2))) / 6
    assert records[0].losses == [pytest.approx(loss)]
    assert records[0].notes == {"lr": 0.1, "without_example": 0}
    assert weight_after(problem) == pytest.approx(0.05 - 0.1 * (2 - 6 * q) / 6, abs=1e-15)


def test_images_without_an_example_are_left_out_and_counted() -> None:
    """A model of weights 0 has no gradient, and takes everything for class 0."""
    roles = make_roles("fffrr", [0, 0, 1, 0, 1], 2)
    pixels = torch.full((5, 3, 2, 2), 99, dtype=torch.uint8)
    problem = make_problem(Linear(12, 2).double(), make_dataset(pixels, roles))
    assert nearest_examples(problem, 0.04, 3).labels.tolist() == [0]
    records = unlearn(Amun(epochs=1, attack_steps=3), problem)
    assert records[0].notes["without_example"] == 2


def test_an_epoch_holds_each_sample_and_each_example_once() -> None:
    """10 of D and 4 of D_a in batches of up to 4: 4 steps, of 3 or 2 and 1; each in a new order."""
    problem = white_problem(0.05, "f" * 4 + "r" * 6, batch_size=4)
    phases = list(Amun(epochs=2).phases(problem))
    orders = []
    for phase in phases:
        steps = list(phase.batches)
        assert [step.rows for step in steps] == [3, 3, 2, 2]
        assert [len(step.batch.rows) for step in steps] == [3, 3, 2, 2]
        assert [len(step.chosen) for step in steps] == [1, 1, 1, 1]
        assert sorted(torch.cat([step.batch.rows for step in steps]).tolist()) == list(range(10))
        orders.append(torch.cat([step.chosen for step in steps]).tolist())
        assert sorted(orders[-1]) == [0, 1, 2, 3]
    assert orders[0] != orders[1]


def test_the_learning_rate_falls_to_a_tenth() -> None:
    rates = [p.notes["lr"] for p in Amun(epochs=5, decay_every=2).phases(white_problem(0.05))]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001])


def test_a_radius_beyond_the_largest_distance_is_tried_once() -> None:
    """A step of 100 ends in the corner of pixels 0 and 1, which the original takes for the other
    class."""
    found = nearest_examples(halves_problem(), 1000.0, 1)
    assert found.labels.tolist() == [1, 0, 1, 0]
    assert found.images[0].flatten().tolist() == [0.0] * 6 + [1.0] * 6
