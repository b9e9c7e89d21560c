"""Tiny-ImageNet as published: train/<wnid>/images, val/images and a table of their classes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lotus_ray.base.errors import DataError
from lotus_ray.data.sources.class_folders import LeftOut, images_in
from lotus_ray.data.sources.images import (
    HELDOUT,
    TRAIN,
    Images,
    Item,
    existing,
    index_of,
    plain_name,
    read_bytes,
)

FOLDER = "tiny-imagenet-200"
LAYOUT = f"{FOLDER}/"
NAME = "tiny_imagenet"


def open_tiny_imagenet(root: Path | None) -> Images:
    """Return the data set in a root folder. Classes are WordNet ids, sorted.

    The published test images have no labels, so `val` is the held-out split.

    Args:
        root: the folder with the published folder; None is the current folder.

    Raises:
        DataError: a file is missing, or a table is damaged.
    """
    folder = existing((root or Path()) / FOLDER, NAME, LAYOUT)
    wnids = existing(folder / "wnids.txt", NAME, LAYOUT)
    classes = tuple(sorted(plain_name(wnid, wnids) for wnid in _lines(wnids)))
    pairs = [line.partition("\t") for line in _lines(existing(folder / "words.txt", NAME, LAYOUT))]
    words = {wnid: title for wnid, _, title in pairs}
    existing(folder / "train", NAME, LAYOUT)
    annotations = existing(folder / "val" / "val_annotations.txt", NAME, LAYOUT)

    items = [*_train(folder, classes), *_val(folder, classes, annotations)]
    titles = tuple(words.get(wnid, "") for wnid in classes)
    return Images(classes=classes, index=index_of(items), read=read_bytes, titles=titles)


def _train(folder: Path, classes: tuple[str, ...]) -> Iterator[Item]:
    for label, wnid in enumerate(classes):
        images = existing(folder / "train" / wnid / "images", NAME, LAYOUT)
        for path in sorted(images_in(images, LeftOut())):
            yield Item(path.relative_to(folder).as_posix(), TRAIN, label, str(path.absolute()))


def _val(folder: Path, classes: tuple[str, ...], annotations: Path) -> Iterator[Item]:
    labels = {wnid: label for label, wnid in enumerate(classes)}
    for line in sorted(_lines(annotations)):
        file, wnid = (*line.split("\t"), "")[:2]
        if wnid not in labels:
            raise DataError(f"'{line}' names no class of wnids.txt", where=str(annotations))
        path = folder / "val" / "images" / plain_name(file, annotations)
        existing(path, NAME, LAYOUT)
        sample_id = path.relative_to(folder).as_posix()
        yield Item(sample_id, HELDOUT, labels[wnid], str(path.absolute()))


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
