"""Image classifiers by name: two ResNet-18s of our own, timm's and torchvision's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from lotus_ray.base import plugins, seeds
from lotus_ray.base.errors import JobError, nearest
from lotus_ray.models import pretrained, refused, resnet_cifar
from lotus_ray.models.create import create
from lotus_ray.models.pretrained import TORCHVISION


@dataclass(frozen=True)
class ModelSpec:
    """A network to build. `options` go to its factory, such as width or patch_size.

    `pretrained` is True for the default weights, or the name of torchvision's; `offline` ones have
    to be in the cache of the machine that builds. `code` is the digest of a plug-in's source.
    """

    name: str
    num_classes: int
    pretrained: bool | str = False
    options: dict[str, Any] = field(default_factory=dict)
    offline: bool = False
    code: str = ""

    @property
    def untrained(self) -> ModelSpec:
        """Return the same network without its weights."""
        options = {**pretrained.layout(self.name, self.pretrained), **self.options}
        return replace(self, pretrained=False, options=options)


def build(spec: ModelSpec, *seed_names: object) -> nn.Module:
    """Build a network; where it is not pretrained its weights depend on `seed_names` alone.

    Args:
        spec: name, classes and options.
        seed_names: as for `seeds.seed_for`.

    Returns:
        A float32 module in eval mode: images [N, 3, H, W] -> logits [N, num_classes].

    Raises:
        JobError: no factory has this name, it refuses the options, or the weights cannot be had.
    """
    if spec.offline and spec.pretrained:
        pretrained.check_here(spec.name, spec.pretrained)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.seed_for(*seed_names))
        try:
            with pretrained.offline(spec.offline):
                return _create(spec).eval()
        except JobError:
            raise
        except Exception as error:  # options go to foreign factories, which raise anything
            raise _explained(spec, error) from error


def _explained(spec: ModelSpec, error: Exception) -> JobError:
    """Say whether it was the download of the weights that failed, or the network itself."""
    if spec.pretrained and _builds_untrained(spec):
        lacking = pretrained.missing(spec.name, spec.pretrained)
        if lacking:
            return pretrained.not_downloaded(spec.name, spec.pretrained, lacking, error)
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return JobError(
        f"model {spec.name} cannot be built with {spec.options}: {reason}",
        where="grid.models",
        next_command="lotus-ray list models",
    )


def _builds_untrained(spec: ModelSpec) -> bool:
    try:
        with torch.device("meta"):
            _create(spec.untrained)
    except Exception:  # as in `build`
        return False
    return True


def check_name(name: str, where: str) -> None:
    """Raise JobError if no factory has this name, or it stands for no image classifier."""
    plugins.check_free("model", name, name in resnet_cifar.BUILDERS)
    if name in resnet_cifar.BUILDERS:
        return  # it needs no timm, whose import takes seconds
    if plugins.find("model", name) is not None:
        plugins.check_free("model", name, name in names())
        return
    import timm

    refused.check_classifier(name, where)

    known = [
        *plugins.names("model"),
        *names(),
        *timm.list_pretrained(),
    ]  # the latter with the tags of their weights
    if name not in known:
        raise JobError(
            f"unknown model '{name}'{plugins.looked_at()}",
            where=where,
            nearest=nearest(name, known),
            next_command="lotus-ray list models",
        )


def names() -> list[str]:
    """Return every model name that a job may use."""
    return [name for members in families().values() for name in members]


def families() -> dict[str, list[str]]:
    """Return every model name that a job may use, by family: ours, torchvision's, timm's."""
    import timm
    import torchvision

    found = {"resnet_cifar": list(resnet_cifar.BUILDERS)}
    for name in torchvision.models.list_models(torchvision.models):
        module = torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]
        found.setdefault(TORCHVISION + module, []).append(TORCHVISION + name)
    for module in timm.list_modules():
        found[module] = timm.list_models(module=module)
    known = {family: refused.classifiers(members) for family, members in found.items()}
    return {family: members for family, members in known.items() if members}


def _create(spec: ModelSpec) -> nn.Module:
    if spec.code:
        return _create_own(spec)
    return create(spec.name, spec.num_classes, spec.pretrained, spec.options)


def _create_own(spec: ModelSpec) -> nn.Module:
    """Build a network of a plug-in."""
    builder = plugins.loaded("model", spec.name, spec.code).value
    network = builder(num_classes=spec.num_classes, **spec.options)
    if not isinstance(network, nn.Module):
        raise JobError(
            f"the model {spec.name} returns {type(network).__name__}, and no torch.nn.Module",
            where="grid.models",
            next_command="see docs/plugins.md",
        )
    return network


def code_of(name: str) -> str:
    """Return the digest of a plug-in's source by the name of its model; empty for others."""
    plugin = plugins.find("model", name)
    return "" if plugin is None else plugin.code.digest
