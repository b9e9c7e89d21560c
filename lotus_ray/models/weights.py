"""Weights as bytes: safetensors, or a .pth read with weights_only=True; never pickle."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from lotus_ray.base.errors import JobError

WEIGHTS = "weights.safetensors"  # the artifact of a row


def weights_to_bytes(model: nn.Module) -> bytes:
    """Return parameters and buffers as a safetensors file."""
    content: bytes = save(
        {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    )
    return content


def weights_from_bytes(content: bytes) -> dict[str, Tensor]:
    """Read what `weights_to_bytes` wrote."""
    weights: dict[str, Tensor] = load(content)
    return weights


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a weights file.

    Raises:
        JobError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise JobError(
            f"the weights file cannot be read: {error.strerror}", where=str(path)
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a weights file of somebody else.

    Args:
        path: .safetensors, or .pth/.pt/.bin holding a state dict (or one under "state_dict" or
            "model").

    Returns:
        Tensors by name.

    Raises:
        JobError: it is no such file, or it would run code when read.
    """
    try:
        if path.suffix == ".safetensors":
            return weights_from_bytes(path.read_bytes())
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes can make a parser raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise JobError(
            f"the weights file is refused: {reason}",
            where=str(path),
            nearest="a .safetensors file, or a .pth that holds nothing but a state dict",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return {name: value for name, value in content.items() if isinstance(value, Tensor)}


def load_into(model: nn.Module, weights: dict[str, Tensor], where: str) -> nn.Module:
    """Load weights strictly and return the model.

    Raises:
        JobError: names or shapes do not fit.
    """
    try:
        is_meta = any(value.is_meta for value in model.parameters())
        model.load_state_dict(weights, assign=is_meta)  # nothing can be copied into a meta tensor
    except RuntimeError as error:
        raise JobError(
            f"the weights do not fit the model: {' '.join(str(error).split())[:300]}", where=where
        ) from error
    return model
