"""Networks that timm and torchvision know and that are no image classifiers, and why."""

from __future__ import annotations

from collections.abc import Iterable

from lotus_ray.base.errors import JobError
from lotus_ray.models.pretrained import TORCHVISION

# By the part of torchvision.models that builds them.
_OTHER_TASKS = {
    "detection": "it finds objects in images",
    "optical_flow": "it estimates motion between two images",
    "quantization": "its weights are integers, which cannot be trained",
    "segmentation": "it labels the pixels of an image",
    "video": "it takes videos",
}
_ENCODER = "_enc"  # how timm calls a network that has no classifier, and takes no num_classes


def why_not(name: str) -> str:
    """Return why a name of timm or torchvision stands for no image classifier; "" if it does."""
    if name.startswith(TORCHVISION):
        return _why_not_torchvision(name.removeprefix(TORCHVISION))
    if name.partition(".")[0].endswith(_ENCODER):
        return "it is an encoder without a classifier"
    return ""


def check_classifier(name: str, where: str) -> None:
    """Raise JobError where a name stands for something else than an image classifier."""
    reason = why_not(name)
    if reason:
        raise JobError(
            f"{name} is no image classifier: {reason}",
            where=where,
            next_command="lotus-ray list models",
        )


def classifiers(names: Iterable[str]) -> list[str]:
    """Return the names that stand for image classifiers, in the same order."""
    return [name for name in names if not why_not(name)]


def _why_not_torchvision(name: str) -> str:
    import torchvision

    if name not in torchvision.models.list_models():
        return ""  # unknown, which is another error
    part = torchvision.models.get_model_builder(name).__module__.split(".")[2]
    return _OTHER_TASKS.get(part, "")
