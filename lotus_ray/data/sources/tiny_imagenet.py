"""Tiny-ImageNet as it is published: train/<wnid>/images, and a list of what val/images show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lotus_ray.data.sources.images import TRAIN, Images, Sample, existing, image_files
from lotus_ray.errors import DataError

FOLDER = "tiny-imagenet-200"
LAYOUT = f"{FOLDER}/"
NAME = "tiny_imagenet"


def open_tiny_imagenet(root: Path | None) -> Images:
    """Return the data set below a root. Classes are WordNet ids, sorted.

    The published test images have no labels, so `val` is what is held out.
    """
    folder = existing((root or Path()) / FOLDER, NAME, LAYOUT)
    classes = tuple(sorted(_lines(existing(folder / "wnids.txt", NAME, LAYOUT))))
    words = dict(
        line.split("\t", 1) for line in _lines(existing(folder / "words.txt", NAME, LAYOUT))
    )
    existing(folder / "train", NAME, LAYOUT)
    annotations = existing(folder / "val" / "val_annotations.txt", NAME, LAYOUT)

    def samples(split: str) -> Iterator[Sample]:
        found = _train(folder, classes) if split == TRAIN else _val(folder, classes, annotations)
        for path, label in found:
            name = path.relative_to(folder).as_posix()
            yield Sample(name, split, path.read_bytes(), name, label)

    titles = tuple(words.get(wnid, "") for wnid in classes)
    return Images(classes=classes, samples=samples, titles=titles)


def _train(folder: Path, classes: tuple[str, ...]) -> Iterator[tuple[Path, int]]:
    for label, wnid in enumerate(classes):
        for path in image_files(existing(folder / "train" / wnid / "images", NAME, LAYOUT)):
            yield path, label


def _val(folder: Path, classes: tuple[str, ...], annotations: Path) -> Iterator[tuple[Path, int]]:
    places = {wnid: label for label, wnid in enumerate(classes)}
    for line in sorted(_lines(annotations)):
        file, wnid = (*line.split("\t"), "")[:2]
        if wnid not in places:
            raise DataError(f"'{line}' names no class of wnids.txt", where=str(annotations))
        yield existing(folder / "val" / "images" / file, NAME, LAYOUT), places[wnid]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
