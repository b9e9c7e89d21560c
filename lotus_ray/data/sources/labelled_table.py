"""A csv with a row for each image: path, label and split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lotus_ray.base.errors import DataError, nearest
from lotus_ray.data.sources.images import HELDOUT, TRAIN, Images, Item, index_of, read_bytes
from lotus_ray.data.sources.text_table import TextTable, read_table

SPLIT_NAMES = {
    TRAIN: ("train", "training"),
    HELDOUT: ("val", "valid", "validation", "test", "heldout"),
}
_SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}


def open_table(path: Path, heldout: float | None) -> Images:
    """Return the images that a csv lists. Classes are sorted, by value if all are numbers.

    Args:
        path: of the csv, with columns `path`, `label` and `split`. Paths are relative to it.
        heldout: given, the column `split` is not read: all images are training images.

    Raises:
        DataError: a column or an image is missing, an image is listed twice, or a split is unknown.
    """
    table = read_table(path)
    files, labels = table.column("path"), table.column("label")
    splits = table.column("split") if heldout is None else [TRAIN] * len(files)
    classes = sorted_classes(labels)
    numbers = {name: label for label, name in enumerate(classes)}
    items: dict[str, Item] = {}
    for row, (file, label, split) in enumerate(zip(files, labels, splits, strict=True)):
        _check_row(table, row, file, label, split, items)
        absolute = (path.parent / file).absolute()
        items[file] = Item(file, _SPLITS[split.lower()], numbers[label], str(absolute))
    return Images(classes=tuple(classes), index=index_of(items.values()), read=read_bytes)


def sorted_classes(labels: Iterable[str]) -> list[str]:
    """Return the different labels, sorted by value if all are numbers, else by their text."""
    names = set(labels)
    are_numbers = all(map(str.isdecimal, names))
    return sorted(names, key=lambda name: (int(name) if are_numbers else 0, name))


def _check_row(
    table: TextTable, row: int, file: str, label: str, split: str, items: dict[str, Item]
) -> None:
    """Raise DataError if a row names no image, no label or no split, or an image again."""
    if split.lower() not in _SPLITS:
        raise DataError(
            f"unknown split '{split}'", where=table.where(row), nearest=nearest(split, _SPLITS)
        )
    if not label:
        raise DataError("an image has no label", where=table.where(row))
    if file in items:
        raise DataError(f"{file} is listed twice", where=table.where(row))
    if not file or not (table.path.parent / file).is_file():
        raise DataError(
            f"there is no image '{file}'",
            where=table.where(row),
            nearest=f"a path relative to {table.path.parent}",
        )
