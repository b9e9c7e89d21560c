"""MUFAC: faces of Korean families in eight age classes, with its own forget set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from lotus_ray.base.errors import DataError
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

NAME = "mufac"
FOLDER = "custom_korean_family_dataset_resolution_128"
CLEAN = f"{FOLDER}_clean"  # without the duplicates that the LoTUS authors removed
LAYOUT = f"{FOLDER}/"
FORGET_ROWS = {FOLDER: 1500, CLEAN: 1062}  # the first rows of the training table
CLASSES = ("0-6", "7-12", "13-19", "20-30", "31-45", "46-55", "56-66", "67-80")  # a … h
_KINDS = {TRAIN: ("train",), HELDOUT: ("val", "test")}


def open_mufac(root: Path | None) -> Images:
    """Return the data set in a root folder, each image once.

    The published tables list some images several times. Copies of a held-out image are removed
    from the training set. Copies of a forget image are removed from the retain set.

    Args:
        root: the folder with the published folder; None is the current folder.

    Raises:
        DataError: a file is missing, or a table is damaged.

    Source: Choi and Na 2023; the forget sets of their code and of Spartalis et al. 2025.
    """
    base = root or Path()
    folder = base / CLEAN
    if not folder.is_dir():
        folder = existing(base / FOLDER, NAME, LAYOUT)
    tables = {
        split: [image for kind in kinds for image in _table(folder, kind, split)]
        for split, kinds in _KINDS.items()
    }
    forgotten = tables[TRAIN][: FORGET_ROWS[folder.name]]
    seen: set[str] = set()
    held_out = _first_copies(tables[HELDOUT], seen)
    kept = _first_copies(tables[TRAIN], seen)
    dropped = len(tables[TRAIN]) - len(kept), len(tables[HELDOUT]) - len(held_out)
    note = (
        f"{dropped[0]} training and {dropped[1]} held-out images left out: "
        "the same bytes are held out, forgotten or listed before"
    )
    ids = {image.sample_id for image in kept}
    return Images(
        classes=CLASSES,
        index=index_of([*kept, *held_out]),
        read=read_bytes,
        forget_ids=tuple(i.sample_id for i in forgotten if i.sample_id in ids),
        notes=(note,) if any(dropped) else (),
    )


def _table(folder: Path, kind: str, split: str) -> Iterator[Item]:
    """Yield the images that one table lists. Raise DataError if it is damaged."""
    path = existing(folder / f"custom_{kind}_dataset.csv", NAME, LAYOUT)
    images = existing(folder / f"{kind}_images", NAME, LAYOUT)
    try:
        table = pyarrow.csv.read_csv(path).select(["image_path", "age_class"])
    except (pa.ArrowException, KeyError) as error:
        raise DataError(f"the table cannot be read: {error}", where=str(path)) from error
    for row in table.to_pylist():
        label = "abcdefgh".find(str(row["age_class"]))
        if label < 0 or len(str(row["age_class"])) != 1:
            raise DataError(
                f"age_class '{row['age_class']}' of {row['image_path']} is not one of a … h",
                where=str(path),
            )
        name = plain_name(row["image_path"], path)
        yield Item(f"{kind}/{name}", split, label, str((images / name).absolute()))


def _first_copies(images: list[Item], seen: set[str]) -> list[Item]:
    """Return the images whose digests are not yet in `seen`, and add their digests."""
    kept = []
    for image in images:
        digest = hashlib.sha256(existing(Path(image.file), NAME, LAYOUT).read_bytes()).hexdigest()
        if digest not in seen:
            seen.add(digest)
            kept.append(image)
    return kept
