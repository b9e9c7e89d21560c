"""A folder of folders of images, as torchvision's ImageFolder and unpacked ImageNet have it."""

from __future__ import annotations

from pathlib import Path

from lotus_ray.base.errors import DataError
from lotus_ray.data.sources.images import (
    HELDOUT,
    SPLITS,
    TRAIN,
    Images,
    Item,
    existing,
    image_files,
    index_of,
    read_bytes,
)

NAME = "image_folder"
LAYOUT = "train/<class>/ and val/<class>/"


def open_image_folder(root: Path | None) -> Images:
    """Return the images below train/<class> and val/<class>; classes are sorted by name.

    Without val/ nothing is held out: such a set can serve to calibrate.
    """
    folder = root or Path()
    folders = {TRAIN: existing(folder / "train", NAME, LAYOUT), HELDOUT: folder / "val"}
    result = {split: _classes(path) for split, path in folders.items()}
    strange = set(result[HELDOUT]) - set(result[TRAIN])
    if strange:
        raise DataError(
            f"{len(strange)} classes are in val and not in train: {', '.join(sorted(strange)[:5])}",
            where=str(folders[HELDOUT]),
        )
    classes = tuple(result[TRAIN])
    items = [
        Item(path.relative_to(folder).as_posix(), split, label, str(path.absolute()))
        for split in SPLITS
        for label, name in enumerate(classes)
        if name in result[split]
        for path in image_files(folders[split] / name)
    ]
    return Images(classes=classes, index=index_of(items), read=read_bytes)


def _classes(folder: Path) -> list[str]:
    """Return the names of the folders of images, sorted; of a folder that is not there, none.

    Raises:
        DataError: it holds none, or images outside them.
    """
    if not folder.exists():
        return []
    shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    names = [path.name for path in shown if path.is_dir()]
    loose = [path.name for path in shown if not path.is_dir()]
    empty = [name for name in names if not image_files(folder / name)]
    if not names or loose or empty:
        what = f"{loose[0]} lies outside" if loose else f"{(empty or ['it'])[0]} holds no image of"
        raise DataError(
            f"{what} the folder of a class",
            where=str(folder),
            nearest=f"a folder that holds {LAYOUT}",
            next_command="lotus-ray list datasets",
        )
    return names
