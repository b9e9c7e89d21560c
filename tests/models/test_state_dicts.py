"""State dicts as people have them: wrapped, prefixed, several in one file, or none at all."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lotus_ray.base.errors import JobError
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.models.state_dicts import read_weights
from lotus_ray.models.weights import load_into

MODEL = resnet18_cifar(num_classes=3, width=1)
STATE = MODEL.state_dict()


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in STATE.items()}


def saved(content: Any, folder: Path, name: str = "w.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def loaded(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Return the weights of a network that loaded a file."""
    network = resnet18_cifar(num_classes=3, width=1)
    return load_into(network, read_weights(path, key), str(path)).state_dict()


WRAPPED: dict[str, Any] = {
    "ddp": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled ddp": prefixed("module._orig_mod."),
    "compiled in ddp": prefixed("_orig_mod.module."),
    "a compiled layer": {n.replace("layer1.", "layer1._orig_mod."): v for n, v in STATE.items()},
    "a parallel layer": {n.replace("layer1.", "layer1.module."): v for n, v in STATE.items()},
    "lightning": {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.4"},
    "net": {"net": prefixed("module."), "acc": 93.4, "epoch": 3},
    "model_state_dict": {"model_state_dict": STATE, "optimizer_state_dict": {"state": {}}},
    "state_dict_ema": {"state_dict_ema": STATE, "best": torch.tensor(0.9)},
    "nested": {"checkpoint": {"model": STATE, "epoch": 3}, "optimizer": {"0": torch.ones(1)}},
    "averaged": AveragedModel(MODEL).state_dict(),
    "arguments": {"model": STATE, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.9)},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_state_dicts_are_loaded(kind: str, tmp_path: Path) -> None:
    with torch.no_grad():
        found = loaded(saved(WRAPPED[kind], tmp_path))
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_of_several_state_dicts_none_is_taken_unsaid(tmp_path: Path) -> None:
    other = {name: value + 1 for name, value in STATE.items()}
    path = saved({"model": STATE, "model_ema": other, "epoch": 1}, tmp_path)
    with pytest.raises(JobError, match="several state dicts: model, model_ema") as raised:
        read_weights(path)
    assert "checkpoint_key: model" in raised.value.next_command
    assert torch.equal(loaded(path, "model_ema")["fc.weight"], STATE["fc.weight"] + 1)
    assert torch.equal(loaded(path, "model")["fc.weight"], STATE["fc.weight"])
    with pytest.raises(JobError, match="no state dict under 'ema'") as raised:
        read_weights(path, "ema")
    assert raised.value.nearest == "model_ema"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "what", "advice"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "Git LFS", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page", "download"),
        (b"<html>", "web page", "download"),
        (b"", "empty", "again"),
        (b"hello, world", "refused", ""),
    ],
)
def test_files_that_are_something_else_are_named(
    content: bytes, what: str, advice: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(JobError, match=what) as raised:
        read_weights(path)
    assert advice in raised.value.next_command
    assert raised.value.where == str(path)
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([STATE], "holds a list, not a state dict"),
        (torch.ones(2), "holds a Tensor, not a state dict"),
        ({"epoch": 3, "acc": 0.9}, "no tensors by name; it holds epoch, acc"),
        ({}, "it holds nothing"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, r"w is torch\.complex64"),
        (nn.Linear(1, 1), r"an object of torch\.nn\.modules\.linear\.Linear"),
    ],
)
def test_what_is_no_state_dict_is_refused_by_name(
    content: object, what: str, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=what) as raised:
        read_weights(saved(content, tmp_path))
    assert "weights_only" not in str(raised.value)


def refusal(network: nn.Module, weights: dict[str, Tensor]) -> str:
    with pytest.raises(JobError) as raised:
        load_into(network, weights, "w.pth")
    return raised.value.what


def test_another_number_of_classes_is_named() -> None:
    text = refusal(resnet18_cifar(num_classes=5, width=1), STATE)
    assert "they are of 3 classes, and the data have 5 (fc.weight)" in text


def test_weights_of_integers_are_named() -> None:
    whole = {name: value.to(torch.int8) for name, value in STATE.items()}
    text = refusal(resnet18_cifar(num_classes=3, width=1), whole)
    assert text.endswith("conv1.weight is torch.int8 in the file and torch.float32 in the model")


def test_another_architecture_is_named_with_the_first_names_and_shapes() -> None:
    wide = refusal(resnet18_cifar(num_classes=3, width=2), STATE)
    assert "conv1.weight is [1, 3, 3, 3] in the file and [2, 3, 3, 3] in the model" in wide
    assert "more shapes differ" in wide
    lacking = {name: value for name, value in STATE.items() if name != "bn1.bias"}
    text = refusal(MODEL, {**lacking, "neck.weight": torch.ones(1)})
    assert re.search(r"1 names are not in the file: bn1\.bias; 1 names .* model: neck", text)
