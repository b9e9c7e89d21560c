"""Images in one folder per class, like torchvision's ImageFolder and unpacked ImageNet."""

from __future__ import annotations

from pathlib import Path

from lotus_ray.base.errors import DataError
from lotus_ray.data.sources.class_folders import LeftOut, class_folders
from lotus_ray.data.sources.images import (
    HELDOUT,
    SPLITS,
    TRAIN,
    Images,
    Item,
    existing,
    index_of,
    read_bytes,
)
from lotus_ray.data.sources.labelled_table import SPLIT_NAMES, open_table
from lotus_ray.data.sources.text_table import SUFFIXES

NAME = "image_folder"
LAYOUT = "train/<class>/ and val/<class>/"
_FOLDERS = {TRAIN: SPLIT_NAMES[TRAIN], HELDOUT: SPLIT_NAMES[HELDOUT][:4]}


def open_image_folder(root: Path | None, heldout: float | None = None) -> Images:
    """Return the images in train/<class> and val/<class>. Classes are sorted by name.

    val/ may be called valid/, validation/ or test/, in upper or lower case; the first of these
    that exists is held out. Without train/, the folder itself holds the classes.

    Args:
        root: the folder, or a csv of path, label and split; None is the current folder.
        heldout: given, all images outside held-out folders are training images: `prepare` draws
            this share of them to be held out.

    Raises:
        DataError: train/ is missing, a class has no image, or is only held out.
    """
    folder = root or Path()
    if folder.suffix.lower() in SUFFIXES and folder.is_file():
        return open_table(folder, heldout)
    folders, unused = _find_splits(folder)
    if heldout is not None and (unread := folders.pop(HELDOUT, None)):
        unused.append(unread)
    left_out = LeftOut()
    found = {split: class_folders(path, left_out) for split, path in folders.items()}
    if HELDOUT in found:
        _check_classes(found[TRAIN], found[HELDOUT], folders[HELDOUT])
    classes = tuple(found[TRAIN])
    items = [
        Item(path.relative_to(folder).as_posix(), split, label, str(path.absolute()))
        for split in SPLITS
        for label, name in enumerate(classes)
        for path in found.get(split, {}).get(name, ())
    ]
    notes = [f"{path.name}/ is not read" for path in unused]
    return Images(
        classes=classes,
        index=index_of(items),
        read=read_bytes,
        notes=(*notes, *left_out.notes(folder)),
    )


def _find_splits(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Return the folder of each split, and further held-out folders.

    Raises:
        DataError: there is neither train/ nor a folder for each of several classes.
    """
    existing(folder, NAME, LAYOUT)
    named: dict[str, list[Path]] = {split: [] for split in SPLITS}
    others: list[Path] = []
    for path in sorted(folder.iterdir()):
        split = next((s for s, names in _FOLDERS.items() if path.name.lower() in names), None)
        if path.is_dir() and not path.name.startswith("."):
            (named[split] if split else others).append(path)
    for split, names in _FOLDERS.items():
        named[split].sort(key=lambda path: (names.index(path.name.lower()), path.name not in names))
    if named[TRAIN]:
        used = {split: paths[0] for split, paths in named.items() if paths}
        return used, [path for paths in named.values() for path in paths[1:]]
    inner = next((path for path in others if (path / "train").is_dir()), None)
    if named[HELDOUT] or inner or len(others) < 2:
        raise DataError(
            f"{NAME} is not here: train is missing",
            where=str(folder),
            nearest=str(inner) if inner else f"a folder that holds {LAYOUT}",
            next_command=f"lotus-ray prepare {NAME} DEST --root {inner or 'FOLDER'}",
        )
    return {TRAIN: folder}, []


def _check_classes(
    train: dict[str, list[Path]], held_out: dict[str, list[Path]], folder: Path
) -> None:
    """Raise DataError if a class is only held out."""
    strange = sorted(set(held_out) - set(train))
    if strange:
        raise DataError(
            f"{len(strange)} classes are in {folder.name} and not in train: "
            f"{', '.join(strange[:5])}",
            where=str(folder),
        )
