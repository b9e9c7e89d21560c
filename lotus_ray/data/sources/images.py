"""What every source yields: encoded images with ids, labels and a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lotus_ray.errors import DataError

TRAIN = "train"
HELDOUT = "heldout"
SPLITS = (TRAIN, HELDOUT)


@dataclass(frozen=True)
class Sample:
    """One encoded image. `split` is `train` or `heldout`; `path` is a name for people."""

    sample_id: str
    split: str
    image: bytes
    path: str
    label: int


@dataclass(frozen=True)
class Images:
    """A data set as a source found it.

    `samples(split)` reads one split in an order that is the same on every machine. `titles` are
    what people call the classes, where that is not their name: synonyms between commas.
    """

    classes: tuple[str, ...]
    samples: Callable[[str], Iterator[Sample]]
    titles: tuple[str, ...] = ()
    forget_ids: tuple[str, ...] = ()  # a forget set that belongs to the data set
    notes: tuple[str, ...] = ()  # what was left out, and why


@dataclass(frozen=True)
class Source:
    """A kind of data set that `prepare` can read.

    `open` is given the folder that holds `layout`, or None where the data are embedded.
    """

    name: str
    description: str
    open: Callable[[Path | None], Images]
    layout: str = ""

    @property
    def embedded(self) -> bool:
        """Return whether it needs no files."""
        return not self.layout


def existing(path: Path, source: str, layout: str) -> Path:
    """Return a path that a source needs.

    Raises:
        DataError: it does not exist.
    """
    if not path.exists():
        raise DataError(
            f"{source} is not here: {path.name} is missing",
            where=str(path.parent),
            nearest=f"a folder that holds {layout}",
            next_command=f"lotus-ray prepare {source} DEST --root FOLDER",
        )
    return path


def image_files(folder: Path) -> list[Path]:
    """Return the images below a folder, sorted by name, hidden files left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    return sorted(path for path in found if not path.name.startswith("."))


_SUFFIXES = {".jpeg", ".jpg", ".png", ".ppm", ".bmp", ".webp", ".tif", ".tiff"}
