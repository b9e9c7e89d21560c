"""Images in one folder per class, like torchvision's ImageFolder and unpacked ImageNet."""

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
    """Return the images in train/<class> and val/<class>. Classes are sorted by name.

    Without val/ no image is held out. Such a set can be used for calibration.

    Args:
        root: the folder with train/ and val/; None is the current folder.

    Raises:
        DataError: train/ is missing, a class has no image, or is only in val/.
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
    """Return the sorted names of the class folders; none if `folder` does not exist.

    Raises:
        DataError: there is no class folder, an empty one, or a file outside of them.
    """
    if not folder.exists():
        return []
    shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    names = [path.name for path in shown if path.is_dir()]
    loose = [path.name for path in shown if not path.is_dir()]
    empty = [name for name in names if not image_files(folder / name)]
    if not names or loose or empty:
        what = f"{loose[0]} is outside" if loose else f"{(empty or ['it'])[0]} holds no image of"
        raise DataError(
            f"{what} the folder of a class",
            where=str(folder),
            nearest=f"a folder that holds {LAYOUT}",
            next_command="lotus-ray list datasets",
        )
    return names
