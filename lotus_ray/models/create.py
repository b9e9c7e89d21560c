"""Create a network by the factory that its name belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from lotus_ray.base.errors import JobError
from lotus_ray.models import resnet_cifar
from lotus_ray.models.layout import head_of
from lotus_ray.models.pretrained import TORCHVISION

# Where networks of torchvision keep auxiliary classifiers, which answer in training mode alone.
_AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def create(
    name: str, num_classes: int, pretrained: bool | str, options: Mapping[str, Any]
) -> nn.Module:
    """Return a network that answers with logits [N, num_classes] in training and in eval mode.

    Auxiliary classifiers are left out: no method trains them.

    Raises:
        JobError: the options ask for auxiliary classifiers.
        Exception: whatever the factory raises.
    """
    if name in resnet_cifar.BUILDERS:
        return resnet_cifar.BUILDERS[name](num_classes=num_classes, **options)
    if name.startswith(TORCHVISION):
        return _create_torchvision(
            name.removeprefix(TORCHVISION), num_classes, pretrained, dict(options)
        )
    import timm

    created: nn.Module = timm.create_model(
        name, pretrained=bool(pretrained), num_classes=num_classes, **options
    )
    return created


def _create_torchvision(
    name: str, num_classes: int, pretrained: bool | str, options: dict[str, Any]
) -> nn.Module:
    """Create one of torchvision's networks, with a head for these classes."""
    import torchvision

    auxiliary = _AUXILIARY.get(name, ())
    if auxiliary and options.pop("aux_logits", False):
        raise JobError(
            f"no method trains the auxiliary classifiers of {name}",
            where="grid.models[].options.aux_logits",
            next_command="leave aux_logits out",
        )
    if auxiliary and not pretrained:  # with weights the factory wants to choose these itself
        options = {"aux_logits": False, "init_weights": True, **options}
    if not pretrained:
        options["num_classes"] = num_classes
    weights = "DEFAULT" if pretrained is True else pretrained or None
    create = partial(torchvision.models.get_model, name, weights=weights, **options)
    network = _with_head(_built_on_any_device(name, create), num_classes)
    return _without(network, auxiliary) if auxiliary else network


def _built_on_any_device(name: str, create: partial[nn.Module]) -> nn.Module:
    """Create a network also on the meta device, where a RegNet cannot compute its widths."""
    device = torch.get_default_device()
    if not (name.startswith("regnet") and device.type == "meta"):
        return create()
    with torch.device("cpu"):
        return create().to(device)


def _with_head(network: nn.Module, num_classes: int) -> nn.Module:
    """Replace the head where pretrained weights have another number of classes."""
    name = head_of(network)
    parent, _, own = name.rpartition(".")
    head = network.get_submodule(name)
    has_bias = head.bias is not None
    if isinstance(head, nn.Linear) and head.out_features != num_classes:
        head = nn.Linear(head.in_features, num_classes, bias=has_bias)
    elif isinstance(head, nn.Conv2d) and head.out_channels != num_classes:
        head = nn.Conv2d(head.in_channels, num_classes, head.kernel_size[0], bias=has_bias)
    setattr(network.get_submodule(parent), own, head)
    return network


def _without(network: nn.Module, auxiliary: tuple[str, ...]) -> nn.Module:
    """Drop auxiliary classifiers, and let weights be loaded that still hold theirs."""
    network.aux_logits = False  # type: ignore[assignment] # what torchvision's forward asks
    for name in auxiliary:
        setattr(network, name, None)
    drop = partial(_drop_weights, auxiliary)
    network.register_load_state_dict_pre_hook(drop)  # type: ignore[no-untyped-call]
    return network


def _drop_weights(
    parts: tuple[str, ...], network: nn.Module, weights: dict[str, Any], *_: object
) -> None:
    for name in [name for name in weights if name.partition(".")[0] in parts]:
        del weights[name]
