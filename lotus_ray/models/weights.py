"""Weights as bytes, and weights into a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor, nn

from lotus_ray.base.errors import JobError
from lotus_ray.models.layout import head_of

WEIGHTS = "weights.safetensors"  # the artifact of a row
_NAMED = 3  # names of weights in a message


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


def load_into(model: nn.Module, weights: dict[str, Tensor], where: str) -> nn.Module:
    """Load weights strictly and return the model.

    Names may have a part in front that the model's lack, if all have it, and `module.` in between.

    Raises:
        JobError: names, shapes or types do not fit. The text says the first ones.
    """
    weights = _renamed(weights, model)
    for name, parameter in model.named_parameters():
        if name in weights and not weights[name].is_floating_point():
            raise JobError(
                f"the weights do not fit the model: {name} is {weights[name].dtype} in the file "
                f"and {parameter.dtype} in the model",
                where=where,
                next_command="in the tool that made them: model.float() before they are saved",
            )
    try:
        is_meta = any(value.is_meta for value in model.parameters())
        model.load_state_dict(weights, assign=is_meta)  # nothing can be copied into a meta tensor
    except RuntimeError as error:
        raise JobError(
            f"the weights do not fit the model: {_difference(model, weights) or error}",
            where=where,
            next_command="compare the model's name and options with those of the weights",
        ) from error
    return model


def _renamed(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return weights under the names of a model, if that is possible; else as they are."""
    wanted = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    inner = {name.replace("module.", ""): value for name, value in weights.items()}
    for given in (weights, inner):
        first = {name.partition(".")[0] for name in given}
        bare = {name.partition(".")[2]: value for name, value in given.items()}
        for names in (given, bare) if len(first) == 1 else (given,):
            if wanted <= names.keys() and len(names) == len(weights):
                return names
    return weights


def _difference(model: nn.Module, weights: dict[str, Tensor]) -> str:
    """Say how weights differ from those of a model: the head alone, other shapes or other names."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    unlike = [name for name in own if name in given and own[name] != given[name]]
    missing = [name for name in own if name not in given]
    unknown = [name for name in given if name not in own]
    head = head_of(model)
    if unlike and not missing + unknown and {name.rpartition(".")[0] for name in unlike} == {head}:
        classes = given[unlike[0]][0], own[unlike[0]][0]
        return f"they are of {classes[0]} classes, and the data have {classes[1]} ({unlike[0]})"
    parts = [
        f"{name} is {list(given[name])} in the file and {list(own[name])} in the model"
        for name in unlike[:_NAMED]
    ]
    if missing:
        parts.append(f"{len(missing)} names are not in the file: {_first(missing)}")
    if unknown:
        parts.append(f"{len(unknown)} names are not in the model: {_first(unknown)}")
    if len(unlike) > _NAMED:
        parts.append(f"{len(unlike) - _NAMED} more shapes differ")
    return "; ".join(parts)


def _first(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
