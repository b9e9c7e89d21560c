"""How much a cell changed its original: numbers by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lotus_ray.metrics.change import outputs_changed, weight_change
from lotus_ray.metrics.outputs import Outputs


def network() -> nn.Module:
    """Return a network of six weights: 3, 4, 0, 0 and biases 0, 12."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        layer.bias.copy_(torch.tensor([0.0, 12.0]))
    return nn.Sequential(layer, nn.BatchNorm1d(2, affine=False))


def test_distance_is_that_of_the_definition() -> None:
    """√(3² + 4²) / √(3² + 4² + 12²) = 5 / 13; two of six weights moved."""
    original, model = network(), network()
    with torch.no_grad():
        model[0].weight[0].zero_()  # type: ignore[index, operator, union-attr]
    change = weight_change(model, original)
    assert change["relative_distance"] == pytest.approx(5 / 13, rel=1e-15)
    assert change["weights_moved"] == 2 / 6


def test_buffers_do_not_count() -> None:
    original, model = network(), network()
    model[1].running_mean += 1  # type: ignore[index, operator, union-attr]
    assert weight_change(model, original) == {"relative_distance": 0, "weights_moved": 0}


def test_a_change_of_the_last_bit_is_one() -> None:
    original, model = network(), network()
    with torch.no_grad():
        model[0].bias[1] = float(np.nextafter(np.float32(12), np.float32(13)))  # type: ignore[index, operator, union-attr]
    assert weight_change(model, original)["weights_moved"] == 1 / 6


def outputs() -> Outputs:
    """Return outputs on four evaluated images and one that is not evaluated."""
    numbers = np.arange(5, dtype=np.float64)
    return Outputs(
        roles=np.array(["forget", "retain", "test", "unseen", "other_train"]),
        labels=np.zeros(5, dtype=np.int64),
        predicted=np.zeros(5, dtype=np.int64),
        entropy=numbers,
        loss=numbers,
        margin=numbers,
        confidence=numbers,
        forget_probs=np.zeros((1, 2)),
        class_sums={},
    )


@pytest.mark.parametrize("name", ["predicted", "entropy", "loss", "margin"])
def test_an_output_that_changed_counts_once(name: str) -> None:
    changed = copy.deepcopy(outputs())
    getattr(changed, name)[[1, 4]] += 1
    assert outputs_changed(changed, outputs()) == 1 / 4
    assert outputs_changed(outputs(), outputs()) == 0
