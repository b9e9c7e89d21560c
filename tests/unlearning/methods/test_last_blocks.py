"""CF-k and EU-k against weights derived by hand, on a network of two or three blocks."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.cf_k import CfK
from lotus_ray.unlearning.methods.eu_k import EuK
from lotus_ray.unlearning.problem import Problem
from tests.toy import blobs, make_dataset, make_problem, make_roles
from tests.unlearning.methods.test_one_step import WHITE

STEP = {"epochs": 1, "lr": 0.1, "momentum": 0, "weight_decay": 0}


class Two(nn.Module):
    """A white image becomes h = (1, 0), and the head makes the logits of it."""

    def __init__(self, head: float) -> None:
        super().__init__()
        self.first = nn.Linear(12, 2, bias=False)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.first.weight[0], self.first.weight[1] = 1 / 12, 0
            self.fc.weight.fill_(head)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.first(images.flatten(1)))
        return logits


def two(head: float = 0.0) -> Problem:
    """Return a problem of white images: D_f of class 1, D_r of class 0."""
    roles = make_roles("ffrr", [1, 1, 0, 0], 2)
    problem = make_problem(Two(head), make_dataset(WHITE.expand(4, 3, 2, 2), roles))
    assert problem.blocks == (("first.weight",), ("fc.weight",))
    return problem


def test_cf_1_moves_the_head_alone() -> None:
    """Head 0: p = ½, gradient (−½, +½) times h = (1, 0): head (.05, 0), (−.05, 0)."""
    problem = two()
    records = unlearn(CfK(**STEP), problem)
    assert records[0].losses == [pytest.approx(math.log(2))]
    expected = torch.tensor([[0.05, 0], [-0.05, 0]], dtype=torch.float64)
    assert torch.allclose(problem.model.fc.weight, expected, atol=1e-15)
    assert torch.equal(problem.model.first.weight, problem.original.first.weight)


def test_cf_2_moves_both_blocks() -> None:
    """With a second step: after the first, the head pulls features apart and so moves `first`."""
    problem = two()
    unlearn(CfK(**{**STEP, "epochs": 2}, k=2), problem)
    assert not torch.equal(problem.model.first.weight, problem.original.first.weight)


def test_weight_decay_leaves_frozen_blocks_alone() -> None:
    problem = two()
    unlearn(CfK(**{**STEP, "weight_decay": 0.5}), problem)
    assert torch.equal(problem.model.first.weight, problem.original.first.weight)


def test_eu_1_starts_from_random_weights_and_forgets_the_head_of_the_original() -> None:
    """The original's head is 7 everywhere; the random one is 0, and ends as that of CF-1 from 0.

    Neither the initial model, which may be pretrained on D_f, nor the random model's first block
    plays a part.
    """
    problem = two(head=7.0)
    untrained = Two(0.0).double()
    nn.init.constant_(untrained.first.weight, 3)
    problem.random_model = lambda: untrained.requires_grad_(False)
    problem.initial_model = lambda seed: copy.deepcopy(problem.original)
    unlearn(EuK(**STEP), problem)
    expected = torch.tensor([[0.05, 0], [-0.05, 0]], dtype=torch.float64)
    assert torch.allclose(problem.model.fc.weight, expected, atol=1e-15)
    assert torch.equal(problem.model.first.weight, problem.original.first.weight)
    assert float(problem.original.fc.weight[0, 0]) == 7


class Normed(nn.Module):
    """Two convolutions with batch normalisation and dropout, and a head: three blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
        self.two = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.two(self.one(images)).mean(dim=(2, 3)))
        return logits


def normed() -> Problem:
    """Return a problem whose original has batch statistics of 9."""
    torch.manual_seed(0)
    model = Normed()
    for block in (model.one, model.two):
        nn.init.constant_(block[1].running_mean, 9)
    roles = make_roles("f" * 6 + "r" * 12, [row % 3 for row in range(18)], 3)
    problem = make_problem(model, make_dataset(blobs(18, 3), roles), batch_size=6)
    assert [len(block) for block in problem.blocks] == [4, 4, 2]
    return problem


@pytest.mark.parametrize(
    ("k", "kept"), [(1, (True, True)), (2, (True, False)), (3, (False, False))]
)
def test_frozen_blocks_keep_their_batch_statistics(k: int, kept: tuple[bool, bool]) -> None:
    problem = normed()
    modes: list[bool] = []
    problem.model.one[2].register_forward_pre_hook(lambda module, _: modes.append(module.training))
    unlearn(CfK(**STEP, k=k), problem)
    assert modes == [k == 3] * 2  # dropout, in both steps of the epoch
    blocks = (problem.model.one, problem.model.two)
    found = [bool((block[1].running_mean == 9).all()) for block in blocks]
    assert tuple(found) == kept
    moved = [
        not torch.equal(value, before)
        for value, before in zip(
            problem.model.parameters(), problem.original.parameters(), strict=True
        )
    ]
    assert not any(moved[: 10 - sum(len(block) for block in problem.blocks[-k:])])
    assert all(moved[-2:])


class Dense(nn.Module):
    """A classifier as VGG has it: dropouts stand beside the layers, not within."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(12, 4), nn.Dropout(), nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 3)]
        self.classifier = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images.flatten(1))
        return logits


@pytest.mark.parametrize(("k", "on"), [(1, [False, True]), (2, [True, True])])
def test_a_dropout_goes_with_the_layer_after_it(k: int, on: list[bool]) -> None:
    roles = make_roles("f" * 6 + "r" * 12, [row % 3 for row in range(18)], 3)
    problem = make_problem(Dense(), make_dataset(blobs(18, 3), roles))
    modes: list[bool] = []
    for place in (1, 3):
        dropout = problem.model.classifier[place]
        dropout.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    unlearn(CfK(**STEP, k=k), problem)
    assert modes == on


def test_eu_2_takes_the_batch_statistics_of_the_random_model() -> None:
    """With lr 0 and momentum .1 of statistics: none of the original's 9 is left in `two`."""
    problem = normed()
    torch.manual_seed(1)
    untrained = Normed().double()
    problem.random_model = lambda: untrained.requires_grad_(False)
    unlearn(EuK(**{**STEP, "lr": 0}, k=2), problem)
    model = problem.model
    assert torch.equal(model.two[0].weight, untrained.two[0].weight)
    assert torch.equal(model.fc.weight, untrained.fc.weight)
    assert torch.equal(model.one[0].weight, problem.original.one[0].weight)
    assert bool((model.one[1].running_mean == 9).all())
    assert float(model.two[1].running_mean.abs().max()) < 4


def test_k_is_a_number_of_blocks() -> None:
    for method in (CfK, EuK):
        with pytest.raises(MethodError, match="above 0"):
            method(k=0)
        with pytest.raises(MethodError, match="2 blocks"):
            unlearn(method(k=3), two())
