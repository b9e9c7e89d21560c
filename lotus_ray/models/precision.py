"""Parameter and autocast dtypes.

Weights, optimizers, logits and metrics are in float32 in every precision but fp64. A lower
precision changes the products inside a forward and its backward.
"""

from __future__ import annotations

import types
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lotus_ray.base.errors import JobError

AMPERE = (8, 0)  # compute capability, from which on a GPU has TF32 and bfloat16


@dataclass(frozen=True)
class Precision:
    """How a network computes.

    Args:
        dtype: of weights, images, logits and gradients.
        tf32: whether float32 products may drop 13 of their 23 bits.
        autocast: type of products and activations inside the network, or None for `dtype`.
    """

    dtype: torch.dtype
    tf32: bool = False
    autocast: torch.dtype | None = None


PRECISIONS: dict[str, Precision] = {
    "fp32": Precision(torch.float32),  # that of the published runs
    "tf32": Precision(torch.float32, tf32=True),
    "bf16": Precision(torch.float32, tf32=True, autocast=torch.bfloat16),
    "fp64": Precision(torch.float64),
}


def use_precision(name: str, device: torch.device) -> None:
    """Let this process compute in a precision from here on.

    Args:
        name: an entry of PRECISIONS.
        device: where it computes.

    Raises:
        JobError: the device has no such numbers.
    """
    precision = PRECISIONS[name]
    if precision.tf32 and not _has(precision, device):
        raise JobError(
            f"precision {name} needs a GPU of compute capability 8.0, and this is {_what(device)}",
            where="precision",
            nearest="fp32",
            next_command="lotus-ray grid JOB.yaml --set precision=fp32",
        )
    # Set in both directions: torch lets convolutions use TF32 unless it is told not to.
    torch.backends.cuda.matmul.allow_tf32 = precision.tf32
    torch.backends.cudnn.allow_tf32 = precision.tf32


def _has(precision: Precision, device: torch.device) -> bool:
    """Return whether a device computes so; a CPU has bfloat16, if often slowly, and no TF32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    return precision.autocast is not None


def _what(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"


def prepare(model: nn.Module, name: str, device: torch.device) -> nn.Module:
    """Move a network to a device and let it compute in a precision; what it answers is in `dtype`.

    Copies of it (`copy.deepcopy`) compute likewise.

    Args:
        model: images [N, 3, H, W] -> logits [N, C]; changed in place.
        name: an entry of PRECISIONS.
        device: where to.

    Returns:
        The same module.
    """
    precision = PRECISIONS[name]
    model.to(device, precision.dtype)
    if device.type == "cuda" and _is_convolutional(model):
        # Tensor cores take pixels with their channels together. On a CPU it saves an eighth of a
        # step of the ResNet-18, and torch 2.14 aborts in the backward of one with 2 channels.
        model.to(memory_format=torch.channels_last)
    if precision.autocast is not None:
        # A bound method: what copies the network binds it to the copy.
        model.forward = types.MethodType(_FORWARDS[precision.autocast], model)
    return model


def _is_convolutional(model: nn.Module) -> bool:
    """Return whether most layers are convolutions: a Vision Transformer has one, for patches."""
    layers = list(model.modules())
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in layers)
    return convolutions > sum(isinstance(layer, nn.Linear) for layer in layers)


def _forward_in_bfloat16(self: nn.Module, images: Tensor) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16):
        logits: Tensor = type(self).forward(self, images)
    return logits.float()


_FORWARDS = {torch.bfloat16: _forward_in_bfloat16}
