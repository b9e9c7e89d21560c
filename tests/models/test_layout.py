"""The head and the blocks of networks, against what they do with an image."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.models import ModelSpec
from lotus_ray.models.layout import blocks_of, head_of
from lotus_ray.models.resnet_cifar import resnet18_cifar

SIZES = {  # name: the size of an image in pixels
    "resnet18_cifar": 32,
    "test_resnet": 64,
    "test_vit": 160,
    "test_byobnet": 64,
    "test_efficientnet": 64,
    "test_mambaout": 64,
    "dpn48b": 64,
    "regnetx_002": 32,
    "torchvision/alexnet": 64,
    "torchvision/convnext_tiny": 32,
    "torchvision/densenet121": 32,
    "torchvision/efficientnet_b0": 32,
    "torchvision/mnasnet0_5": 32,
    "torchvision/mobilenet_v3_small": 32,
    "torchvision/regnet_y_400mf": 32,
    "torchvision/resnet18": 32,
    "torchvision/shufflenet_v2_x0_5": 32,
    "torchvision/squeezenet1_1": 32,
    "torchvision/swin_t": 64,
    "torchvision/vgg11_bn": 32,
}


class HeadFirst(nn.Module):
    """Registers its head before the layers that come before it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Linear(12, 4)

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.head(self.body(images.flatten(1)))
        return answer


@pytest.mark.parametrize("name", SIZES)
def test_the_head_makes_the_logits_and_blocks_are_in_order_of_use(name: str) -> None:
    """The head answers with one channel a class; hooks see when layers first run."""
    network = models.build(ModelSpec(name, 7), 1)
    used: list[str] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for own, module in network.named_modules():

        def seen(_: nn.Module, __: object, out: Tensor, own: str = own) -> None:
            used.append(own)
            shapes[own] = tuple(out.shape)

        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(seen)
    with torch.no_grad():
        network(torch.zeros(1, 3, SIZES[name], SIZES[name]))
    head, blocks = head_of(network), blocks_of(network)
    assert shapes[head][:2] == (1, 7)
    assert used[-1] == head
    flat = [parameter for block in blocks for parameter in block]
    assert sorted(flat) == sorted(parameter for parameter, _ in network.named_parameters())
    assert f"{head}.weight" in blocks[-1]
    assert len(blocks) > 2
    block_of = {name: number for number, block in enumerate(blocks) for name in block}
    order = [block_of[f"{layer}.weight"] for layer in dict.fromkeys(used)]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("name", "prefixes"),
    [
        ("resnet18_cifar", ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        ("resnet18", ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        ("torchvision/resnet18", ["conv1", "layer1", "layer2", "layer3", "layer4", "fc"]),
        ("torchvision/swin_t", [f"features.{n}" for n in range(8)] + ["head"]),
        ("test_vit", ["cls_token", *(f"blocks.{n}" for n in range(6)), "head"]),
    ],
)
def test_blocks_of_residual_networks_and_transformers(name: str, prefixes: list[str]) -> None:
    with torch.device("meta"):
        blocks = blocks_of(models.build(ModelSpec(name, 7), 1))
    assert len(blocks) == len(prefixes)
    assert all(block[0].startswith(p) for block, p in zip(blocks, prefixes, strict=True))
    if "resnet18" in name:
        assert blocks[0] == ("conv1.weight", "bn1.weight", "bn1.bias")
        assert blocks[-1] == ("fc.weight", "fc.bias")


def test_the_head_is_not_the_last_linear_layer() -> None:
    """It is registered first here, and a convolution in squeezenet."""
    network = HeadFirst()
    assert head_of(network) == "head"
    assert blocks_of(network) == (("body.weight", "body.bias"), ("head.weight", "head.bias"))
    assert head_of(torchvision.models.squeezenet1_1(num_classes=3)) == "classifier.1"
    distilled = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=3, depth=1)
    assert head_of(distilled) == "head"
    assert set(blocks_of(distilled)[-1]) >= {"head.weight", "head_dist.weight"}
    assert head_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 2), nn.ReLU())) == "1"


def test_a_network_without_a_head_is_refused() -> None:
    for network in (nn.ReLU(), timm.create_model("resnet18", num_classes=0)):
        with pytest.raises(JobError, match=r"no layer of \w+ is known to make its logits"):
            head_of(network)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_a_pretrained_head_is_replaced_for_other_classes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,000 classes three are left, in a convolution as in a linear layer."""
    builder = torchvision.models.get_model
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: builder(name))
    network = models.build(ModelSpec(f"torchvision/{name}", 3, pretrained=True), 1)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert network.get_submodule(head_of(network)).weight.shape[0] == 3


def test_resnet18_cifar_names_fc() -> None:
    assert head_of(resnet18_cifar(num_classes=4, width=2)) == "fc"
