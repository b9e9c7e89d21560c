"""Batches of one image in a network whose batch normalisation sees a single pixel."""

from __future__ import annotations

import pytest
import torch

from lotus_ray.base.errors import JobError
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.finetune import Finetune
from lotus_ray.unlearning.methods.munba import Munba
from lotus_ray.unlearning.problem import Problem
from tests.toy import blobs, make_dataset, make_problem, make_roles


def problem(roles: str, batch_size: int) -> Problem:
    """Return a problem of a ResNet that shrinks 2×2 pixels to one."""
    torch.manual_seed(1)
    dataset = make_dataset(blobs(len(roles), 3), make_roles(roles, [0] * len(roles), 3))
    return make_problem(resnet18_cifar(num_classes=3, width=2), dataset, batch_size)


@pytest.mark.parametrize(("roles", "batch_size"), [("fr", 8), ("frrr", 1)])
def test_a_batch_of_one_image_is_explained(roles: str, batch_size: int) -> None:
    """One image in all, or one at a time."""
    with pytest.raises(JobError, match="a batch holds one image") as raised:
        unlearn(Finetune(epochs=1), problem(roles, batch_size))
    assert "batch_size of at least 2" in raised.value.next_command
    assert raised.value.where == "phase 0"


def test_a_single_image_to_forget_is_explained_where_it_goes_forward_on_its_own() -> None:
    """MUNBa takes its gradient after that of three retain images."""
    with pytest.raises(JobError, match="a batch holds one image"):
        unlearn(Munba(epochs=1), problem("frrr", 8))


def test_an_image_that_is_left_over_is_shared_out() -> None:
    """Nine images in batches of at most 8 are five and four."""
    records = unlearn(Finetune(epochs=1), problem("f" + "r" * 9, 8))
    assert len(records[0].losses) == 2
