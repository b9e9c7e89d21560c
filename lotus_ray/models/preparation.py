"""How a model's own weights want images: crop, interpolation, mean and std."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lotus_ray.models import resnet_cifar
from lotus_ray.models.pretrained import TORCHVISION, torchvision_weights

_INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True)
class Preparation:
    """How images are prepared. `crop_pct` is the share of the resized image that is kept."""

    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)


def lost_crop(name: str) -> str:
    """Return how weights of timm want images cropped, where that cannot be done here; else ""."""
    if name in resnet_cifar.BUILDERS or name.startswith(TORCHVISION):
        return ""
    import timm

    config = timm.get_pretrained_cfg(name)
    mode = str(config.crop_mode or "") if config is not None else ""
    return "" if mode == "center" else mode


def own_preparation(name: str, pretrained: bool | str = True) -> Preparation | None:
    """Return how the weights of a model want images, by their own configuration.

    timm says it in `pretrained_cfg`, torchvision in `weights.transforms()`.

    Args:
        name: a known model.
        pretrained: True for its default weights, or a name of torchvision's.

    Returns:
        None if the model has no configuration, or one that is not for RGB images.
    """
    if name in resnet_cifar.BUILDERS:
        return None
    if name.startswith(TORCHVISION):
        wanted = torchvision_weights(name, pretrained).transforms()
        crop, resized = wanted.crop_size[0], wanted.resize_size[0]
        crop_pct = crop / resized
        if int(crop / crop_pct) < resized:  # rounded down: the resized image would lack a pixel
            crop_pct = math.nextafter(crop_pct, 0)
        return _preparation(crop_pct, wanted.interpolation.value, wanted.mean, wanted.std)
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None:
        return None
    return _preparation(config.crop_pct, config.interpolation, config.mean, config.std)


def _preparation(
    crop_pct: float, interpolation: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Preparation | None:
    if len(mean) != 3 or len(std) != 3:
        return None
    known = interpolation if interpolation in _INTERPOLATIONS else "bicubic"
    return Preparation(min(crop_pct, 1.0), known, tuple(mean), tuple(std))
