"""What every entry of METHODS keeps to, and proof that a no-op would be noticed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from lotus_ray.engine import unlearn
from lotus_ray.methods import METHODS
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.problem import Method, Phase, Problem
from tests.toy import blobs, make_problem, make_roles, make_warm

SETTINGS: dict[str, dict[str, float]] = {
    "original": {"epochs": 2, "lr": 0.05, "batch_size": 16},
    "gold": {"epochs": 2, "lr": 0.05, "batch_size": 16},
    "finetune": {"epochs": 2, "lr": 0.01},
    "lotus": {"epochs": 2, "lr": 0.001},
}
# A class of its own for what only trains when it forgets: no row may stand still.
LABELS = [place % 3 for place in range(48)]
ROLES = make_roles("f" * 9 + "r" * 27 + "u" * 6 + "t" * 6, LABELS, 3)


def problem() -> Problem:
    """Build a small ResNet with batch normalisation on 48 images."""
    torch.manual_seed(0)
    model = resnet18_cifar(num_classes=3, width=2)
    return make_problem(model, make_warm(blobs(48, 3), ROLES, seed=5), batch_size=16)


def weights_after(method: Method) -> tuple[dict[str, torch.Tensor], Problem]:
    """Unlearn, and return the student's state and the problem."""
    stage = problem()
    unlearn(method, stage)
    return {name: value.clone() for name, value in stage.model.state_dict().items()}, stage


def check_that_weights_move(method: Method) -> None:
    """Fail where a parameter tensor is bit-identical to the original's or not finite."""
    after, stage = weights_after(method)
    before = dict(stage.original.named_parameters())
    still = [name for name, value in before.items() if torch.equal(after[name], value)]
    assert still == []
    assert all(bool(value.isfinite().all()) for value in after.values())


@dataclass(frozen=True)
class NoOp(Method):
    """Yields phases of nothing."""

    name: ClassVar[str] = "no_op"
    label: ClassVar[str] = "No-op"

    def phases(self, problem: Problem) -> Iterator[Phase]:
        optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.1)
        yield Phase(batches=[], loss=lambda model, batch: batch.images.sum(), optimizer=optimizer)


def test_every_method_has_settings_here() -> None:
    assert SETTINGS.keys() == METHODS.keys()


def test_names_and_labels_are_those_of_the_table() -> None:
    assert {name: method.label for name, method in METHODS.items()} == {
        "original": "Original",
        "gold": "Gold Std",
        "finetune": "Finetuning",
        "lotus": "LoTUS",
    }


@pytest.mark.parametrize("name", METHODS)
def test_weights_move_and_stay_finite(name: str) -> None:
    check_that_weights_move(METHODS[name](**SETTINGS[name]))


def test_a_no_op_fails_that_test() -> None:
    with pytest.raises(AssertionError):
        check_that_weights_move(NoOp())


@pytest.mark.parametrize("name", METHODS)
def test_teacher_and_its_buffers_do_not_move(name: str) -> None:
    fresh = problem().original.state_dict()
    _, stage = weights_after(METHODS[name](**SETTINGS[name]))
    assert all(torch.equal(value, fresh[key]) for key, value in stage.original.state_dict().items())
    assert not stage.original.training


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_weights(name: str) -> None:
    first, _ = weights_after(METHODS[name](**SETTINGS[name]))
    torch.manual_seed(99)  # the global generator plays no part
    second, _ = weights_after(METHODS[name](**SETTINGS[name]))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", METHODS)
def test_the_model_is_left_in_eval_mode(name: str) -> None:
    _, stage = weights_after(METHODS[name](**SETTINGS[name]))
    assert not stage.model.training
