from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.models import ModelSpec
from lotus_ray.models.resnet_cifar import resnet18_cifar, resnet18_lotus


def test_cifar_resnet18_has_its_usual_size() -> None:
    """Stem 3·64·9 + 128; stages 147,968 + 525,568 + 2,099,712 + 8,393,728; head 512·10 + 10."""
    count = sum(p.numel() for p in resnet18_cifar(num_classes=10).parameters())
    assert count == 1728 + 128 + 147_968 + 525_568 + 2_099_712 + 8_393_728 + 5130


def test_stages_halve_the_image() -> None:
    model = resnet18_cifar(num_classes=4, width=2)
    shapes = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape[1:])))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    assert shapes == [(2, 32, 32), (4, 16, 16), (8, 8, 8), (16, 4, 4)]


def test_the_papers_resnet18_has_the_size_of_its_code() -> None:
    """Instead of three normalised shortcuts it has eight bare ones, one a block.

    1×1 convolutions: 64·64·2 + 64·128 + 128² + 128·256 + 256² + 256·512 + 512² = 524,288, where
    the usual network has 64·128 + 128·256 + 256·512 = 172,032 and 2·(128 + 256 + 512) of norms.
    """
    usual = sum(p.numel() for p in resnet18_cifar(num_classes=10).parameters())
    count = sum(p.numel() for p in resnet18_lotus(num_classes=10).parameters())
    assert count == usual - 172_032 - 1792 + 524_288 == 11_524_426


def test_the_papers_stages_see_half_as_many_pixels() -> None:
    """Its max-pool takes 32 pixels a side to 16 before the first stage; shortcuts have no norm."""
    model = models.build(ModelSpec("resnet18_lotus", 4, options={"width": 2}), 1)
    shapes = []
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        stage = model.get_submodule(name)
        stage.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape[1:])))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    assert shapes == [(2, 32, 32), (2, 16, 16), (4, 8, 8), (8, 4, 4), (16, 2, 2)]
    shortcuts = [m for n, m in model.named_modules() if n.endswith("shortcut")]
    assert len(shortcuts) == 8
    assert all(isinstance(m, nn.Conv2d) and m.bias is None for m in shortcuts)


def test_the_papers_pool_takes_the_largest_of_three_by_three() -> None:
    """Of 4×4 pixels 0 … 15, with a border: rows 1 and 3, columns 1 and 3 are largest."""
    pool = resnet18_lotus(num_classes=2, width=1).pool
    pixels = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pool(pixels).flatten().tolist() == [5.0, 7.0, 13.0, 15.0]


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec("resnet18_cifar", 3, options={"width": 2}),
        ModelSpec("test_vit", 3, options={"img_size": 8, "patch_size": 2}),
        ModelSpec("torchvision/resnet18", 3),
    ],
)
def test_weights_depend_on_the_names_of_the_seed_alone(spec: ModelSpec) -> None:
    first = models.build(spec, 13, "initial")
    torch.manual_seed(4)
    state = torch.get_rng_state()
    again, other = models.build(spec, 13, "initial"), models.build(spec, 12, "initial")
    assert torch.equal(torch.get_rng_state(), state)  # and the global generator is left alone
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
    assert not first.training
    assert first(torch.zeros(1, 3, 8, 8)).shape == (1, 3)


def test_wrong_options_are_one_clear_error() -> None:
    with pytest.raises(JobError, match="widht"):
        models.build(ModelSpec("resnet18_cifar", 3, options={"widht": 2}), 0)


def test_every_timm_and_torchvision_name_is_known() -> None:
    classifiers = {name for name in timm.list_models() if not name.endswith("_enc")}
    assert classifiers < set(models.names())
    models.check_name("torchvision/vit_b_16", "")
    with pytest.raises(JobError) as raised:
        models.check_name("vit_base_patch16_225", "grid.models[0].name")
    assert raised.value.nearest == "vit_base_patch16_224"
