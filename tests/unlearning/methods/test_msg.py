"""MSG: which weights are drawn anew, from what, and one step by hand."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import Tensor, nn

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.msg import Msg
from lotus_ray.unlearning.problem import Problem
from tests.toy import Linear, blobs, make_dataset, make_problem, make_roles
from tests.toy_convolution import RAMP, Convolution


def problem(model: nn.Module) -> Problem:
    """Return an image of brightness 1/12 … 12/12: class 1 in the forget set, class 0 beside it."""
    dataset = make_dataset(torch.stack([RAMP, RAMP]), make_roles("fr", [1, 0], 2))
    return make_problem(model, dataset)


def changed(stage: Problem) -> dict[str, Tensor]:
    """Return masks of the weights that differ from the original's, where any does."""
    before = dict(stage.original.named_parameters())
    masks = {name: value != before[name] for name, value in stage.model.named_parameters()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def test_the_weights_of_smallest_gradient_are_drawn_anew() -> None:
    """At W = 0 ∇CE is (−½, +½)·x on the retain image and (+½, −½)·x on the forget image.

    g = (−x, +x), so |g| grows with brightness: a quarter of 24 weights are features 1 to 3 of both
    rows. Added instead of subtracted, the gradients would cancel.
    """
    stage = problem(Convolution())
    phase = next(Msg(redrawn_fraction=0.25).phases(stage))
    mask = changed(stage)["head.weight"]
    assert mask.reshape(2, 12).tolist() == [[True] * 3 + [False] * 9] * 2
    assert phase.notes["redrawn_weights"] == 6


def test_one_step_by_hand() -> None:
    """The gradient (s − e₀)·x of the retain image counts fully for new weights, .1 for others."""
    method = Msg(epochs=1, lr=0.2, momentum=0, weight_decay=0, redrawn_fraction=0.25)
    stage = problem(Convolution())
    next(method.phases(stage))
    start = stage.model.head.weight.detach().reshape(2, 12).clone()
    stage = problem(Convolution())
    unlearn(method, stage)
    x = RAMP.reshape(12).double() / 255
    powers = [math.exp(float(row @ x)) for row in start]
    p = powers[1] / sum(powers)
    gradient = torch.stack([-p * x, p * x])
    factor = torch.tensor([1.0] * 3 + [0.1] * 9, dtype=torch.float64)
    expected = start - 0.2 * factor * gradient
    assert torch.allclose(stage.model.head.weight.reshape(2, 12), expected, atol=1e-15)


def test_new_weights_are_normal_with_variance_two_over_fan_out() -> None:
    """W is [32, 48, 5, 5]: variance 2/(32·25) = 1/400. 30 % are 11,520 numbers.

    Their mean is within 4·(1/20)/√11520 of 0, their deviation within 4/√(2·11520) = 2.6 % of 1/20.
    """
    torch.manual_seed(0)
    features = nn.Conv2d(3, 48, 1), nn.Conv2d(48, 32, 5, padding=2), nn.Flatten()
    model = nn.Sequential(*features, nn.Linear(128, 2))
    nn.init.ones_(model[1].weight)
    stage = problem(model)
    next(Msg().phases(stage))
    mask = changed(stage)["1.weight"]
    drawn = stage.model[1].weight[mask].detach()
    assert len(drawn) == 11_520
    assert abs(float(drawn.mean())) < 4 / 20 / math.sqrt(11_520)
    assert float(drawn.std()) == pytest.approx(1 / 20, rel=0.026)


def test_the_seed_decides_what_is_drawn() -> None:
    weights = []
    for seed in (0, 0, 1):
        dataset = make_dataset(torch.stack([RAMP, RAMP]), make_roles("fr", [1, 0], 2), seed=seed)
        stage = make_problem(Convolution(), dataset)
        next(Msg().phases(stage))
        weights.append(stage.model.head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("epochs", "shares"), [(5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]), (2, [1, 1 / 2]), (1, [1])]
)
def test_the_rate_rises_then_falls(epochs: int, shares: list[float]) -> None:
    method = Msg(epochs=epochs, lr=0.3)
    phases = method.phases(problem(Convolution()))
    rates = [phase.optimizer.param_groups[0]["lr"] for phase in phases]
    assert rates == [pytest.approx(0.3 * share) for share in shares]


@pytest.mark.parametrize("linear", [False, True])
def test_a_vision_transformer_has_its_patch_embedding_drawn_anew_alone(linear: bool) -> None:
    """Unless linear layers are treated, too. round(.3·n) weights of each layer of n are new."""
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=2, patch_size=1, embed_dim=8, depth=1, num_heads=2, num_classes=2
    )
    images = blobs(8, 2)
    stage = make_problem(model, make_dataset(images, make_roles("ffffrrrr", [0, 1] * 4, 2)))
    next(Msg(linear=linear).phases(stage))
    found = changed(stage)
    block = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    layers = [*(f"blocks.0.{name}.weight" for name in block), "head.weight"] if linear else []
    assert set(found) == {"patch_embed.proj.weight", *layers}
    assert all(int(mask.sum()) == round(0.3 * mask.numel()) for mask in found.values())


def test_a_network_without_convolutions_is_refused_or_has_its_linear_layers_treated() -> None:
    with pytest.raises(MethodError, match="no convolution"):
        unlearn(Msg(), problem(Linear(12, 2)))
    stage = problem(Linear(12, 2))
    next(Msg(linear=True, redrawn_fraction=0.25).phases(stage))
    assert int(changed(stage)["head.weight"].sum()) == 6
