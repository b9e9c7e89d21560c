"""Tiny-ImageNet as it is published: train/<wnid>/images, and a list of what val/images show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lotus_ray.base.errors import DataError
from lotus_ray.data.sources.images import (
    HELDOUT,
    TRAIN,
    Images,
    Item,
    existing,
    image_files,
    index_of,
    plain_name,
    read_bytes,
)

FOLDER = "tiny-imagenet-200"
LAYOUT = f"{FOLDER}/"
NAME = "tiny_imagenet"


def open_tiny_imagenet(root: Path | None) -> Images:
    """Return the data set below a root. Classes are WordNet ids, sorted.

    The published test images have no labels, so `val` is what is held out.
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
        for path in image_files(existing(folder / "train" / wnid / "images", NAME, LAYOUT)):
            yield Item(path.relative_to(folder).as_posix(), TRAIN, label, str(path.absolute()))


def _val(folder: Path, classes: tuple[str, ...], annotations: Path) -> Iterator[Item]:
    places = {wnid: label for label, wnid in enumerate(classes)}
    for line in sorted(_lines(annotations)):
        file, wnid = (*line.split("\t"), "")[:2]
        if wnid not in places:
            raise DataError(f"'{line}' names no class of wnids.txt", where=str(annotations))
        path = folder / "val" / "images" / plain_name(file, annotations)
        existing(path, NAME, LAYOUT)
        sample_id = path.relative_to(folder).as_posix()
        yield Item(sample_id, HELDOUT, places[wnid], str(path.absolute()))


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
