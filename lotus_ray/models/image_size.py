"""Which images a network takes: the smallest ones, or those of one size alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, takewhile

import torch
from torch import nn

from lotus_ray.base.errors import JobError
from lotus_ray.models.pretrained import TORCHVISION

STEP = 32  # pixels: what most networks shrink to one


@dataclass(frozen=True)
class ImageSize:
    """A size of square images, in pixels; `is_only` if the network takes no other."""

    pixels: int
    is_only: bool

    def __str__(self) -> str:
        return f"{self.pixels} pixels alone" if self.is_only else f"{self.pixels} pixels or more"


def smallest_images(name: str, network: nn.Module, num_classes: int) -> ImageSize:
    """Return the smallest images with which a network can be trained.

    It is tried with two blank images of 32 pixels, 64, … up to the size that it was made for, in
    training mode. Nothing is computed if the network is on the meta device. It takes one size
    alone if that is the first that fits and one of 32 pixels more does not.

    Args:
        name: of the model.
        network: on any device.
        num_classes: number of logits.

    Raises:
        JobError: it cannot be trained with any.
    """
    usual = _made_for(name, network)
    smaller = takewhile(lambda size: size < usual, count(STEP, STEP))
    reason = ""
    for size in [*smaller, usual]:
        reason = why_not_trained(network, size, num_classes)
        if not reason:
            larger = size == usual and why_not_trained(network, usual + STEP, num_classes)
            return ImageSize(size, is_only=bool(larger))
    raise JobError(
        f"model {name} cannot be trained with images of {usual} pixels: {reason}",
        where="grid.models",
        next_command="lotus-ray list models",
    )


def why_not_trained(network: nn.Module, size: int, num_classes: int) -> str:
    """Return why a network in training mode has no logits for two images of a size, or ""."""
    device = next(network.parameters()).device
    was_training = network.training
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), device:
            logits = network.train()(torch.zeros(2, 3, size, size))
    except Exception as error:  # a foreign network raises anything
        return (str(error) or type(error).__name__).splitlines()[0]
    finally:
        network.train(was_training)
    if not isinstance(logits, torch.Tensor):
        return f"in training mode it answers with a {type(logits).__name__}"
    if logits.shape != (2, num_classes):
        return f"in training mode it answers with shape {tuple(logits.shape)}"
    return ""


def _made_for(name: str, network: nn.Module) -> int:
    """Return the size that a network was made for: an option such as img_size comes first."""
    if name.startswith(TORCHVISION):
        return int(getattr(network, "image_size", 224))  # of a Vision Transformer
    embedded = getattr(getattr(network, "patch_embed", None), "img_size", None)
    if embedded:
        return int(embedded[-1])
    config = getattr(network, "pretrained_cfg", None) or {}
    return int(config.get("input_size", (3, STEP, STEP))[-1])
