"""Which layer makes the logits, and which parameters form a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from lotus_ray.base.errors import JobError

Block = tuple[str, ...]

_LAYERS = (nn.Linear, nn.Conv2d)
# Where networks of torchvision, of this package and plain ones keep the layers of their head.
_HEADS = ("fc", "classifier", "heads", "head")
# Containers that hold a network's blocks, and are none themselves.
_CONTAINERS = ("features", "layers", "blocks", "stages", "trunk_output", "encoder", *_HEADS)


def head_of(model: nn.Module) -> str:
    """Return the dotted name of the layer that makes the logits, a linear layer or a convolution.

    timm says it (`pretrained_cfg["classifier"]`, then `get_classifier`). Elsewhere it is the last
    layer of `fc`, `classifier`, `heads` or `head`, as torchvision's builders name it, or of the
    network itself where that is a plain sequence. Networks with two heads whose logits are
    averaged (deit distilled, levit, crossvit) give the first.

    Raises:
        JobError: the network has no such layer.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, _LAYERS)}
    for name in _candidates(model):
        if name in layers:
            return name
    raise JobError(
        f"no layer of {type(model).__name__} is known to make its logits",
        where="grid.models",
        next_command="choose a classifier: lotus-ray list models",
    )


def find_head(model: nn.Module, images: Tensor) -> str:
    """Return the dotted name of the layer that makes the logits of any network.

    It is that of `head_of`, if it makes as many numbers as there are logits. Elsewhere it is the
    last linear layer or convolution that the network calls and that makes as many.

    Args:
        model: in eval mode.
        images: [N, C, H, W], to call it with.

    Raises:
        JobError: as `head_of`.
    """
    called: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in model.named_modules()
        if isinstance(module, _LAYERS)
    ]
    try:
        with torch.no_grad():
            classes = model(images).shape[1]
    finally:
        for handle in handles:
            handle.remove()
    fitting = [name for name in called if _width(model.get_submodule(name)) == classes]
    try:
        head = head_of(model)
    except JobError:
        if not fitting:
            raise
        return fitting[-1]
    return head if head in fitting or not fitting else fitting[-1]


def _width(layer: nn.Module) -> int | None:
    """Return how many numbers a layer makes, at each place."""
    width: int | None = getattr(layer, "out_features", getattr(layer, "out_channels", None))
    return width


def blocks_of(model: nn.Module, head: str | None = None) -> tuple[Block, ...]:
    """Return the names of all parameters by block, from the input to the logits.

    A block is what a family repeats: a residual stage, a layer of a transformer, a convolution of
    a plain network. The stem is the first block and the head the last. A normalisation between
    blocks goes with the block before it. timm's networks say it themselves
    (`group_matcher(coarse=True)`), where some count the layers right before the head to its block.
    ResNets, with or without a stem for small images: stem, layer1, layer2, layer3, layer4, fc.

    Every parameter is in exactly one block, and the last block holds the layer of `head_of`.

    Source: the last k layers of Goel et al. 2022 (EU-k, CF-k). Deviation: their code counts single
    convolutions and linear layers, so that a k may cut a residual block in two.

    Args:
        model: the network.
        head: the layer that makes the logits; default that of `head_of`.

    Raises:
        JobError: as `head_of`.
    """
    blocks = _timm_blocks(model) or _named_blocks(model)
    return tuple(_with_head_last(blocks, head or head_of(model)))


def _candidates(model: nn.Module) -> Iterator[str]:
    """Yield names that may be that of the head, the likeliest first."""
    get_classifier = getattr(model, "get_classifier", None)
    if get_classifier:
        config = getattr(model, "pretrained_cfg", None) or {}
        named = config.get("classifier") or ()
        yield from (named,) if isinstance(named, str) else named
        given = get_classifier()
        for head in given if isinstance(given, tuple | list | nn.ModuleList) else (given,):
            for name, module in model.named_modules():
                if module is head:
                    yield from _last_layers(module, name)
        return
    for name in _HEADS:
        if isinstance(getattr(model, name, None), nn.Module):
            yield from _last_layers(getattr(model, name), name)
            return
    yield from _last_layers(model, "")


def _last_layers(module: nn.Module, name: str) -> Iterator[str]:
    """Yield the module if it is a layer, or the last layer of it if it is a sequence."""
    if isinstance(module, _LAYERS):
        yield name
    elif isinstance(module, nn.Sequential):
        for own, child in reversed(list(module.named_children())):
            if any(True for _ in child.parameters()):
                yield from _last_layers(child, f"{name}.{own}".removeprefix("."))
                return


def _timm_blocks(model: nn.Module) -> list[Block]:
    """Return the blocks that a network of timm knows of itself, or none."""
    group_matcher = getattr(model, "group_matcher", None)
    if not group_matcher:
        return []
    from timm.models import group_parameters

    try:
        matcher = group_matcher(coarse=True)
    except AssertionError:  # rdnet has one kind of blocks alone
        matcher = group_matcher(coarse=False)
    groups = group_parameters(model, matcher)
    return [tuple(groups[key]) for key in sorted(groups)]


def _named_blocks(model: nn.Module) -> list[Block]:
    """Return the blocks of a network whose modules are registered in the order of their use."""
    blocks: list[Block] = []
    for names, is_block in _pieces(model, "", is_container=True):
        if is_block or not blocks:
            blocks.append(names)
        else:
            blocks[-1] += names
    return blocks


def _pieces(module: nn.Module, prefix: str, is_container: bool) -> Iterator[tuple[Block, bool]]:
    """Yield the parameters of a module in order, and whether they begin a block.

    A container's own parameters, such as a class token, and its normalisations begin none.
    """
    if not is_container or isinstance(module, _LAYERS):
        names = tuple(prefix + name for name, _ in module.named_parameters())
        if names:
            yield names, any(isinstance(part, _LAYERS) for part in module.modules())
        return
    own = tuple(prefix + name for name, _ in module.named_parameters(recurse=False))
    if own:
        yield own, False
    for name, child in module.named_children():
        yield from _pieces(child, f"{prefix}{name}.", name in _CONTAINERS)


def _with_head_last(blocks: Iterable[Block], head: str) -> list[Block]:
    """Return the blocks, the head in the last one."""
    blocks = list(blocks)
    own = tuple(name for block in blocks for name in block if name.rpartition(".")[0] == head)
    if set(own) <= set(blocks[-1]):
        return blocks
    others = [tuple(name for name in block if name not in own) for block in blocks]
    return [*(block for block in others if block), own]
