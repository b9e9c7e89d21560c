"""Why the steps of a method and a network cannot run in parts."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lotus_ray.base.errors import JobError, LotusRayError, MethodError
from lotus_ray.unlearning.method import Method

WHERE = "resources.micro_batch"
_NEAREST = "micro_batch: auto, which leaves such steps whole"


def obstacle_to_parts(method: Method, layer: str | None) -> LotusRayError | None:
    """Return why a step cannot run in parts, or None.

    Args:
        method: that trains.
        layer: what `batch_statistics_layer` says of the model in the mode that it trains in.
    """
    if method.mixes_images:
        return MethodError(
            f"{method.title} weighs each image by the others of its batch: its steps cannot run in "
            "micro-batches",
            where=WHERE,
            nearest=_NEAREST,
            next_command=f"a smaller batch_size for {method.name}",
        )
    if layer is not None:
        return JobError(
            "batch normalisation takes its statistics from the whole batch, and the layer "
            f"{layer} trains: steps cannot run in micro-batches",
            where=WHERE,
            nearest=_NEAREST,
            next_command="a network without batch normalisation, or a smaller batch_size",
        )
    return None


def batch_statistics_layer(model: nn.Module) -> str | None:
    """Return the name of the first layer whose output in its present mode depends on other images.

    That is batch normalisation in training mode, and any layer that keeps a running variance.
    """
    name: str
    for name, module in model.named_modules():
        keeps = getattr(module, "running_var", None) is not None
        if module.training and (keeps or isinstance(module, _BatchNorm)):
            return name
    return None
