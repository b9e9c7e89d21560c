"""A folder of folders of images, as torchvision's ImageFolder and unpacked ImageNet have it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lotus_ray.data.sources.images import HELDOUT, TRAIN, Images, Sample, existing, image_files
from lotus_ray.errors import DataError

NAME = "image_folder"
LAYOUT = "train/<class>/ and val/<class>/"


def open_image_folder(root: Path | None) -> Images:
    """Return the images below train/<class> and val/<class>; classes are sorted by name.

    Without val/ nothing is held out: such a set can serve to calibrate.
    """
    folder = root or Path()
    folders = {TRAIN: existing(folder / "train", NAME, LAYOUT), HELDOUT: folder / "val"}
    classes = tuple(sorted(path.name for path in folders[TRAIN].iterdir() if path.is_dir()))
    if not classes:
        raise DataError("there is no folder of a class", where=str(folders[TRAIN]))
    heldout = folders[HELDOUT].iterdir() if folders[HELDOUT].exists() else ()
    strange = {path.name for path in heldout if path.is_dir()} - set(classes)
    if strange:
        raise DataError(
            f"{len(strange)} classes are in val and not in train: {', '.join(sorted(strange)[:5])}",
            where=str(folders[HELDOUT]),
        )

    def samples(split: str) -> Iterator[Sample]:
        for label, name in enumerate(classes):
            for path in image_files(folders[split] / name):
                sample_id = path.relative_to(folder).as_posix()
                yield Sample(sample_id, split, path.read_bytes(), sample_id, label)

    return Images(classes=classes, samples=samples)
