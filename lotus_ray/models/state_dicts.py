"""The state dict in a weights file of somebody else. Nothing in the file is run."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from lotus_ray.base.errors import JobError, nearest

_DEPTH = 3  # of dictionaries in dictionaries that are searched
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel, and of torch.compile
# What training scripts put beside the weights; none of it runs code when it is read.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]
_BEGINNINGS = {
    b"version https://git-lfs.github.com/spec/": (
        "it is a Git LFS pointer, not the file itself",
        "git lfs pull, in the repository that it came from",
    ),
    b"<!doctype html": ("it is a web page", "download the file itself"),
    b"<html": ("it is a web page", "download the file itself"),
}


def read_weights(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read a weights file of somebody else.

    Args:
        path: .safetensors, or .pth/.pt/.bin that holds a state dict, itself or under some key.
        key: the state dict to take, such as "model_ema", of a file that holds several.

    Returns:
        Tensors by name, without the prefixes of DistributedDataParallel and torch.compile.

    Raises:
        JobError: it is no such file, it would run code when read, or it holds several state dicts
            and no key says which.
    """
    content = _content(path)
    if not isinstance(content, Mapping):
        raise _refused(
            f"it holds a {type(content).__name__}, not a state dict",
            path,
            "in the tool that made it: torch.save(model.state_dict(), FILE)",
        )
    candidates = dict(_candidates(content))
    if key is not None and key not in candidates:
        raise _refused(
            f"it holds no state dict under '{key}'", path, nearest=nearest(key, candidates)
        )
    if not candidates:
        held = ", ".join(str(name) for name in list(content)[:8]) or "nothing"
        raise _refused(f"it holds no tensors by name; it holds {held}", path)
    if key is None and len(candidates) > 1:
        names = list(candidates)
        raise _refused(
            f"it holds several state dicts: {', '.join(names)}",
            path,
            f"say which: checkpoint_key: {names[0]} beside initial_checkpoint, "
            f"or evaluate --key {names[0]}",
        )
    weights = candidates[key] if key is not None else next(iter(candidates.values()))
    for name, value in weights.items():
        if value.is_quantized or value.is_complex() or value.layout is not torch.strided:
            kind = "sparse" if value.layout is not torch.strided else value.dtype
            raise _refused(f"{name} is {kind}, and no network here has such weights", path)
    return _without_prefixes(weights)


def _content(path: Path) -> Any:
    """Return what a file holds.

    Raises:
        JobError: the file cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(64)
    except OSError as error:
        raise _refused(error.strerror or "it cannot be read", path) from error
    if not beginning:
        raise _refused("it is empty", path, "copy or download it again")
    for text, (what, next_command) in _BEGINNINGS.items():
        if beginning.lstrip().lower().startswith(text):
            raise _refused(what, path, next_command)
    try:
        if path.suffix.lower() == ".safetensors":
            return load(path.read_bytes())
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes can make a parser raise anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> JobError:
    """Say why a parser failed, without torch's advice to allow code."""
    text = str(error) or type(error).__name__
    found = re.search(r"(?:GLOBAL|global) ([\w.]+)", text)
    if found and found.group(1) not in ("was", "set"):
        return _refused(
            f"it holds an object of {found.group(1)}, and reading that could run code",
            path,
            "in the tool that made it: torch.save(model.state_dict(), FILE)",
        )
    if "Weights only load failed" in text or "weights_only" in text:
        return _refused("it is no file of torch.save, or it is damaged", path)
    return _refused(text.splitlines()[0], path)


def _candidates(content: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the state dicts in a dictionary by dotted key; "" is the dictionary itself.

    A state dict maps names to tensors. Where state dicts lie in a dictionary, single tensors beside
    them (a best accuracy) are none.
    """
    inner = [
        found
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Mapping) and not name.startswith("optim")
        if above.count(".") < _DEPTH
        for found in _candidates(value, f"{above}{name}.")
    ]
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if inner:
        yield from inner
    elif tensors:
        yield above.removesuffix("."), tensors


def _without_prefixes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that all names have, one after another."""
    for prefix in _PREFIXES * _DEPTH:
        names = [name for name in weights if name != "n_averaged"]  # of AveragedModel
        if names and all(name.startswith(prefix) for name in names):
            weights = {name.removeprefix(prefix): weights[name] for name in names}
    return {name.replace("._orig_mod.", "."): value for name, value in weights.items()}


def _refused(why: str, path: Path, next_command: str = "", nearest: str = "") -> JobError:
    usual = "a .safetensors file, or a .pth that holds nothing but a state dict"
    return JobError(
        f"the weights file is refused: {why}",
        where=str(path),
        nearest=nearest or ("" if next_command else usual),
        next_command=next_command,
    )
