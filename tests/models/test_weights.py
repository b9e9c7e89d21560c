from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lotus_ray.base.errors import JobError
from lotus_ray.models.resnet_cifar import resnet18_cifar
from lotus_ray.models.state_dicts import read_weights
from lotus_ray.models.weights import load_into, weights_from_bytes, weights_to_bytes


class Payload:
    """Pickles to a call that creates a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.canary),)


def test_weights_survive_bytes() -> None:
    model = resnet18_cifar(num_classes=3, width=2)
    again = weights_from_bytes(weights_to_bytes(model))
    assert again.keys() == model.state_dict().keys()
    assert all(torch.equal(again[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_pth_with_a_state_dict_is_read(tmp_path: Path, key: str | None) -> None:
    state = resnet18_cifar(num_classes=3, width=2).state_dict()
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "w.pth")
    read = read_weights(tmp_path / "w.pth")
    assert all(torch.equal(read[name], value) for name, value in state.items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    assert torch.equal(read_weights(tmp_path / "w.safetensors")["a"], torch.ones(2))


def test_a_pickle_that_runs_code_is_refused_unrun(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"a": Payload(canary)}, tmp_path / "evil.pth")
    with pytest.raises(JobError, match="refused"):
        read_weights(tmp_path / "evil.pth")
    assert not canary.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)  # the payload does work
    assert canary.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_broken_files_are_one_clear_error(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(JobError) as raised:
        read_weights(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)


def test_weights_of_another_shape_are_refused() -> None:
    state = resnet18_cifar(num_classes=3, width=2).state_dict()
    with pytest.raises(JobError, match="do not fit"):
        load_into(resnet18_cifar(num_classes=3, width=4), state, where="w.pth")
