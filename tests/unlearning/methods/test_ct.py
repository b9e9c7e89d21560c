"""CT: transposed kernels, the schedule, and one step by hand."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from lotus_ray.base.errors import MethodError
from lotus_ray.unlearning.engine import unlearn
from lotus_ray.unlearning.methods.ct import Ct, transpose_kernels
from tests.toy import Linear, make_dataset, make_problem, make_roles
from tests.toy_convolution import WHITE, Convolution


def problem(model: nn.Module, image: torch.Tensor = WHITE):  # type: ignore[no-untyped-def]
    """Return one forget image of class 1 and one retain image of class 0, both the same."""
    dataset = make_dataset(torch.stack([image, image]), make_roles("fr", [1, 0], 2))
    return make_problem(model, dataset)


def test_one_step_by_hand() -> None:
    """One white pixel, in row 0 and column 1 of channel 0: logit k is W[k, 0, 0, 1].

    W[0, 0, 0, 1] = 5 and W[0, 0, 1, 0] = ln 3 change places: logits (ln 3, 0), s = (¾, ¼), loss
    −ln ¾. The retain image has class 0, so its gradient is (−¼, +¼) at that pixel, and lr is .1.
    """
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    image[0, 0, 1] = 255
    model = Convolution().double()
    with torch.no_grad():
        model.head.weight[0, 0, 0, 1], model.head.weight[0, 0, 1, 0] = 5.0, math.log(3)
    stage = problem(model, image)
    records = unlearn(Ct(epochs=1, lr=0.1, momentum=0, weight_decay=0), stage)
    expected = torch.zeros(2, 3, 2, 2, dtype=torch.float64)
    expected[0, 0, 0, 1], expected[0, 0, 1, 0] = math.log(3) + 0.025, 5.0
    expected[1, 0, 0, 1] = -0.025
    assert torch.allclose(stage.model.head.weight, expected, atol=1e-15)
    assert records[0].losses == [pytest.approx(-math.log(0.75), abs=1e-15)]
    assert torch.equal(stage.original.head.weight, model.head.weight)


def test_the_rate_follows_a_half_cosine_over_epochs() -> None:
    """(1 + cos(π·e/3))/2 for e = 0, 1, 2 is 1, ¾, ¼."""
    phases = Ct(epochs=3, lr=0.4).phases(problem(Convolution()))
    rates = [(phase.notes["lr"], phase.optimizer.param_groups[0]["lr"]) for phase in phases]
    assert rates == [(pytest.approx(rate), pytest.approx(rate)) for rate in (0.4, 0.3, 0.1)]


def test_kernels_of_one_weight_and_oblong_ones_stay() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, (1, 3)), nn.Conv2d(3, 2, 3))
    before = [layer.weight.detach().clone() for layer in model]
    assert transpose_kernels(model) == 1
    point, oblong, square = (layer.weight for layer in model)
    assert torch.equal(point, before[0])
    assert torch.equal(oblong, before[1])
    assert torch.equal(square, before[2].permute(0, 1, 3, 2))
    assert not torch.equal(square, before[2])


def test_a_vision_transformer_has_its_patch_embedding_transposed_alone() -> None:
    model = timm.models.VisionTransformer(
        img_size=2, patch_size=2, embed_dim=8, depth=1, num_heads=2, num_classes=2
    )
    stage = problem(model)
    next(Ct().phases(stage))
    before = dict(stage.original.named_parameters())
    moved = [n for n, v in stage.model.named_parameters() if not torch.equal(v, before[n])]
    assert moved == ["patch_embed.proj.weight"]


def test_a_network_without_such_kernels_is_refused() -> None:
    with pytest.raises(MethodError, match="no convolution"):
        unlearn(Ct(), problem(Linear(12, 2)))
