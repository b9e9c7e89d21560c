"""Networks of torchvision that answer otherwise in training mode, or are built otherwise."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.models import ModelSpec
from lotus_ray.models.weights import load_into

AUXILIARY = [("googlenet", 32), ("inception_v3", 96)]


def built(name: str, **options: object) -> nn.Module:
    return models.build(ModelSpec(f"torchvision/{name}", 3, options=options), 1)


@pytest.mark.parametrize(("name", "size"), AUXILIARY)
def test_auxiliary_classifiers_are_left_out(name: str, size: int) -> None:
    """In training mode the answer is a tensor of logits, and every parameter takes part in it."""
    network = built(name).train()
    logits = network(torch.zeros(2, 3, size, size))
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert all(value.grad is not None for value in network.parameters())


@pytest.mark.parametrize(("name", "size"), AUXILIARY)
def test_weights_with_auxiliary_classifiers_can_be_loaded(name: str, size: int) -> None:
    """As stores and files of weights hold them; what is not ours is still refused."""
    full = torchvision.models.get_model(name, num_classes=3, init_weights=False).eval()
    network = load_into(built(name), full.state_dict(), "w.pth")
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        assert torch.equal(network(images), full(images))
    with pytest.raises(JobError, match="do not fit"):
        load_into(network, {**full.state_dict(), "aux9.weight": torch.ones(1)}, "w.pth")


def test_auxiliary_classifiers_are_refused_by_name() -> None:
    with pytest.raises(JobError, match="no method trains the auxiliary classifiers of googlenet"):
        built("googlenet", aux_logits=True)
    assert built("googlenet", aux_logits=False).aux1 is None


def test_a_pretrained_network_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The factory insists on them, to load its weights."""
    monkeypatch.setattr(
        torchvision.models.Inception_V3_Weights,
        "get_state_dict",
        lambda *_, **__: torchvision.models.inception_v3(init_weights=False).state_dict(),
    )
    spec = ModelSpec("torchvision/inception_v3", 3, True, {"aux_logits": False})
    assert models.build(spec, 1).train()(torch.zeros(2, 3, 96, 96)).shape == (2, 3)


def test_a_regnet_is_built_without_memory_for_its_weights() -> None:
    """As a job is checked; its widths cannot be computed on the meta device."""
    with torch.device("meta"):
        network = built("regnet_y_400mf")
    assert all(value.is_meta for value in network.state_dict().values())
