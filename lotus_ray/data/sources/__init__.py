"""The data sets that `lotus-ray prepare` can read: SOURCES."""

from __future__ import annotations

from lotus_ray.base import plugins
from lotus_ray.base.errors import JobError, nearest
from lotus_ray.data.sources import image_folder, imagenet, mufac, tiny_imagenet
from lotus_ray.data.sources.cifar import CIFAR10, CIFAR100, opener
from lotus_ray.data.sources.digits import open_digits
from lotus_ray.data.sources.images import HELDOUT, SPLITS, TRAIN, Images, Source

__all__ = [
    "HELDOUT",
    "SOURCES",
    "SPLITS",
    "TRAIN",
    "Images",
    "Source",
    "find",
    "prepare_command",
]

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "digits",
            "scikit-learn's 1,797 handwritten digits (8x8), embedded: needs no download",
            open_digits,
        ),
        Source(
            CIFAR10.name,
            "CIFAR-10 as torchvision unpacks it",
            opener(CIFAR10),
            f"{CIFAR10.folder}/",
        ),
        Source(
            CIFAR100.name,
            "CIFAR-100 as torchvision unpacks it",
            opener(CIFAR100),
            f"{CIFAR100.folder}/",
        ),
        Source(
            tiny_imagenet.NAME,
            "Tiny-ImageNet as published; classes are WordNet ids",
            tiny_imagenet.open_tiny_imagenet,
            tiny_imagenet.LAYOUT,
        ),
        Source(
            imagenet.NAME,
            "ImageNet-1K from the tar files of ILSVRC2012 (not unpacked); classes are WordNet ids",
            imagenet.open_imagenet,
            imagenet.LAYOUT,
        ),
        Source(
            mufac.NAME,
            "faces of families in 8 age classes; has its own forget set",
            mufac.open_mufac,
            mufac.LAYOUT,
        ),
        Source(
            image_folder.NAME,
            "images in folders named after their class, or listed by a csv",
            image_folder.open_image_folder,
            image_folder.LAYOUT,
            can_hold_out=True,
        ),
    )
}


def prepare_command(name: str, destination: object) -> str:
    """Return the command that prepares a data set, for errors."""
    source = find(name) if name in SOURCES or name in plugins.names("source") else None
    root = "" if source is None or source.embedded else " --root FOLDER"
    return f"lotus-ray prepare {name} {destination}{root}"


def find(name: str, where: str = "") -> Source:
    """Return an entry of SOURCES, or a source of a plug-in.

    Raises:
        JobError: there is no such source. The text gives the nearest name.
    """
    plugins.check_free("source", name, name in SOURCES)
    if name in SOURCES:
        return SOURCES[name]
    plugin = plugins.find("source", name)
    if plugin is None:
        raise JobError(
            f"unknown source '{name}'{plugins.looked_at()}",
            where=where,
            nearest=nearest(name, [*SOURCES, *plugins.names("source")]),
            next_command="lotus-ray list datasets",
        )
    source: Source = plugin.value
    return source
