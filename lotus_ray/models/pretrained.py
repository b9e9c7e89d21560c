"""Pretrained weights: which there are, where this machine keeps them, and what to do without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from lotus_ray.base import plugins
from lotus_ray.base.errors import JobError, nearest
from lotus_ray.models import resnet_cifar

TORCHVISION = "torchvision/"
# What timm loads from a Hugging Face repository that names no file, the first one found.
_HUGGING_FACE_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Missing:
    """A file of weights that is not on this machine, and the cache that would hold it."""

    file: str
    cache: Path


def check(name: str, pretrained: bool | str, where: str) -> None:
    """Raise JobError where the model of this name has no such weights.

    Args:
        name: a known model.
        pretrained: True for its default weights, or a name of torchvision's.
        where: the place in the job.
    """
    if isinstance(pretrained, str):
        _check_weights_name(name, pretrained, where)
    elif pretrained and (plugins.find("model", name) or not _has_weights(name)):
        raise JobError(
            f"there are no pretrained weights of {name}",
            where=where,
            next_command="set pretrained: false, or give an initial_checkpoint",
        )


def missing(name: str, pretrained: bool | str) -> Missing | None:
    """Return what a download would have to bring, or None where the weights are here.

    Args:
        name: a model that has such weights.
        pretrained: as for `check`; not False.
    """
    if name.startswith(TORCHVISION):
        return _missing_from_torch(torchvision_weights(name, pretrained).url)
    import timm

    config = timm.get_pretrained_cfg(name)
    if config.hf_hub_id:
        return _missing_from_hugging_face(config.hf_hub_id, config.hf_hub_filename)
    return _missing_from_torch(config.url)


def check_here(name: str, pretrained: bool | str) -> None:
    """Raise JobError where pretrained weights are not in the cache of this machine."""
    lacking = missing(name, pretrained)
    if lacking:
        raise JobError(
            f"offline, and the pretrained weights of {name} are not here: {lacking.file}",
            where=str(lacking.cache),
            next_command=_next_command(name, pretrained, lacking),
        )


def not_downloaded(
    name: str, pretrained: bool | str, lacking: Missing, error: BaseException
) -> JobError:
    """Return the error that says why the weights did not come, and how to do without a network."""
    cause = (str(error) or type(error).__name__).splitlines()[0]
    return JobError(
        f"the pretrained weights of {name}, {lacking.file}, cannot be downloaded: {cause}",
        where=str(lacking.cache),
        next_command=_next_command(name, pretrained, lacking),
    )


def layout(name: str, pretrained: bool | str) -> dict[str, Any]:
    """Return the options of a network of the same layout as these weights have."""
    if pretrained and name.startswith(TORCHVISION + "vit_"):  # made for one size of image
        return {"image_size": torchvision_weights(name, pretrained).meta["min_size"][0]}
    return {}


def torchvision_weights(name: str, pretrained: bool | str) -> Any:
    """Return torchvision's entry for the weights of a model: their URL, transforms and more."""
    import torchvision

    result = torchvision.models.get_model_weights(_short(name))
    return result[pretrained] if isinstance(pretrained, str) else result.DEFAULT


@contextmanager
def offline(wanted: bool) -> Iterator[None]:
    """Keep Hugging Face's client from the network within the block; it tries for a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _check_weights_name(name: str, weights: str, where: str) -> None:
    if name.startswith(TORCHVISION):
        import torchvision

        known = [w.name for w in torchvision.models.get_model_weights(_short(name))]
        if weights in known:
            return
        raise JobError(
            f"{name} has no weights '{weights}'",
            where=where,
            nearest=nearest(weights, known),
            next_command=f"lotus-ray grid JOB.yaml --set model.pretrained={known[0]}",
        )
    import timm

    bare = name.partition(".")[0]
    raise JobError(
        f"'{weights}' can name weights of torchvision alone; elsewhere a tag says which: "
        "name: NAME.TAG, pretrained: true",
        where=where,
        nearest=nearest(f"{bare}.{weights}", timm.list_pretrained(f"{bare}.*")),
        next_command="lotus-ray list models",
    )


def _has_weights(name: str) -> bool:
    if name.startswith(TORCHVISION):
        return True
    import timm

    return name not in resnet_cifar.BUILDERS and bool(timm.models.is_model_pretrained(name))


def _missing_from_torch(url: str) -> Missing | None:
    file, folder = Path(urlparse(url).path).name, Path(torch.hub.get_dir(), "checkpoints")
    return None if (folder / file).exists() else Missing(file, folder)


def _missing_from_hugging_face(repository: str, file: str | None) -> Missing | None:
    from huggingface_hub import constants, try_to_load_from_cache

    repository, _, revision = repository.partition("@")
    files = (file,) if file else _HUGGING_FACE_FILES
    for candidate in files:
        result = try_to_load_from_cache(repository, candidate, revision=revision or None)
        if isinstance(result, str):
            return None
    return Missing(f"{repository}/{files[0]}", Path(constants.HF_HUB_CACHE))


def _next_command(name: str, pretrained: bool | str, lacking: Missing) -> str:
    weights = "DEFAULT" if pretrained is True else pretrained
    load = (
        f"import torchvision; torchvision.models.get_model('{_short(name)}', weights='{weights}')"
        if name.startswith(TORCHVISION)
        else f"import timm; timm.create_model('{name}', pretrained=True)"
    )
    return (
        f'--set model.initial_checkpoint=FILE, or, on a machine with a network, python -c "{load}" '
        f"and copy {lacking.cache} from there"
    )


def _short(name: str) -> str:
    return name.removeprefix(TORCHVISION)
