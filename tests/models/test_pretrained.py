"""Pretrained weights in made-up caches; the network is never reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from lotus_ray import models
from lotus_ray.base.errors import JobError
from lotus_ray.models import ModelSpec, pretrained
from lotus_ray.models.state_dicts import read_weights
from lotus_ray.models.weights import load_into

SHUFFLENET = ModelSpec("torchvision/shufflenet_v2_x0_5", 1000, "IMAGENET1K_V1")
VIT = ModelSpec("test_vit", 1000, True)
FILES = {
    SHUFFLENET.name: "hub/checkpoints/shufflenetv2_x0.5-f707e7126e.pth",
    VIT.name: "models--timm--test_vit.r160_in1k/snapshots/abc/model.safetensors",
}
BOTH = pytest.mark.parametrize("spec", [SHUFFLENET, VIT], ids=lambda spec: spec.name)


def offline(spec: ModelSpec) -> ModelSpec:
    return ModelSpec(spec.name, spec.num_classes, spec.pretrained, spec.options, offline=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which torch and Hugging Face keep what they download: nothing so far."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Refuse to look up any address. Returns what was asked for."""
    asked: list[object] = []

    def refuse(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    return asked


def fill(cache: Path, spec: ModelSpec) -> nn.Module:
    """Put weights into the cache as a download would; return the network that holds them."""
    network = models.build(spec.untrained, "in the cache")
    file = cache / FILES[spec.name]
    file.parent.mkdir(parents=True)
    if file.suffix == ".pth":
        torch.save(network.state_dict(), file)
    else:
        save_file(network.state_dict(), file)
        (file.parents[2] / "refs").mkdir()
        (file.parents[2] / "refs" / "main").write_text("abc")
    return network


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@BOTH
def test_weights_in_the_cache_are_loaded_without_a_network(
    spec: ModelSpec, cache: Path, no_network: list[object]
) -> None:
    network = fill(cache, spec)
    assert pretrained.missing(spec.name, spec.pretrained) is None
    assert same(models.build(offline(spec), 13), network)
    assert not same(models.build(spec.untrained, 13), network)
    assert no_network == []
    assert not constants.HF_HUB_OFFLINE  # what else runs in this process may still ask


@BOTH
def test_weights_that_are_not_here_are_refused_without_a_network(
    spec: ModelSpec, cache: Path, no_network: list[object]
) -> None:
    with pytest.raises(JobError) as raised:
        models.build(offline(spec), 13)
    error = raised.value
    assert spec.name in error.what
    assert Path(FILES[spec.name]).name in error.what
    assert error.where.startswith(str(cache))
    assert error.next_command.startswith("--set model.initial_checkpoint=FILE, or")
    assert no_network == []


def fail(error: Exception) -> Callable[..., None]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


@BOTH
def test_a_download_that_fails_is_one_clear_error(
    spec: ModelSpec, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = fail(URLError("name or service not known"))
    monkeypatch.setattr("torch.hub.download_url_to_file", error)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", error)
    with pytest.raises(JobError) as raised:
        models.build(spec, 13)
    assert raised.value.what.startswith(f"the pretrained weights of {spec.name}, ")
    assert raised.value.what.endswith(
        f"{Path(FILES[spec.name]).name}, cannot be downloaded: "
        "<urlopen error name or service not known>"
    )
    assert raised.value.where.startswith(str(cache))
    assert "--set model.initial_checkpoint=FILE, or" in raised.value.next_command


def test_wrong_options_are_not_taken_for_a_failed_download(cache: Path) -> None:
    with pytest.raises(JobError, match=r"cannot be built with .*wings"):
        models.build(ModelSpec("test_vit", 3, True, {"wings": 2}), 13)


def test_broken_weights_are_not_taken_for_a_failed_download(cache: Path) -> None:
    fill(cache, SHUFFLENET)
    (cache / FILES[SHUFFLENET.name]).write_bytes(b"torn")
    with pytest.raises(JobError, match="cannot be built"):
        models.build(SHUFFLENET, 13)


def test_weights_made_for_another_size_of_image_give_their_layout() -> None:
    """SWAG's ViT-B/16 was fine-tuned at 384 pixels: (384 / 16)² + 1 positions; V1 at 224."""
    sizes = []
    for weights in ("IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_V1"):
        with torch.device("meta"):
            network = models.build(ModelSpec("torchvision/vit_b_16", 3, weights).untrained, 0)
        sizes.append(network.encoder.pos_embedding.shape[1])  # type: ignore[union-attr]
    assert sizes == [24**2 + 1, 14**2 + 1]


@BOTH
def test_a_file_of_somebody_else_loads_into_the_model_of_its_name(
    spec: ModelSpec, cache: Path, no_network: list[object]
) -> None:
    network = fill(cache, spec)
    weights = read_weights(cache / FILES[spec.name])
    fresh = models.build(spec.untrained, 13)
    assert same(load_into(fresh, weights, where=""), network)
    other = models.build(ModelSpec(spec.name, 10), 13)
    with pytest.raises(JobError, match="the weights do not fit the model"):
        load_into(other, weights, where="")
    assert no_network == []
