"""What every source finds: an index of images, and how to read one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lotus_ray.base.errors import DataError

TRAIN = "train"
HELDOUT = "heldout"
SPLITS = (TRAIN, HELDOUT)
INDEX = pa.schema(
    [
        ("sample_id", pa.string()),
        ("split", pa.string()),
        ("label", pa.int64()),
        ("path", pa.string()),  # a name for people
        ("file", pa.string()),  # where the bytes are: these three go to `Images.read`
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
Read = Callable[[str, int, int], bytes]


@dataclass(frozen=True)
class Item:
    """One line of an index. Without `size`, the image is the whole file."""

    sample_id: str
    split: str
    label: int
    file: str
    offset: int = 0
    size: int = -1
    path: str = ""


@dataclass(frozen=True)
class Images:
    """A data set as a source found it.

    `read(file, offset, size)` returns the encoded image of a line of `index`, on any process that
    sees the files. `titles` are what people call the classes, where that is not their name:
    synonyms between commas.
    """

    classes: tuple[str, ...]
    index: pa.Table
    read: Read
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


def index_of(items: Iterable[Item]) -> pa.Table:
    """Return an index of some images."""
    columns: dict[str, list[object]] = {name: [] for name in INDEX.names}
    for item in items:
        for name, values in columns.items():
            values.append(getattr(item, name))
        columns["path"][-1] = item.path or item.sample_id
    return pa.table(columns, schema=INDEX)


def read_bytes(file: str, offset: int, size: int) -> bytes:
    """Return `size` bytes of a file from `offset` on, or all of it where `size` is negative."""
    with Path(file).open("rb") as opened:
        opened.seek(offset)
        return opened.read(size)


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


def plain_name(name: object, where: Path) -> str:
    """Return the name of a file that a table gives.

    Raises:
        DataError: it leads to another folder, or nowhere.
    """
    text = str(name)
    if not text or text in (".", "..") or Path(text).name != text:
        raise DataError(f"'{text}' is not the name of a file", where=str(where))
    return text


def image_files(folder: Path) -> list[Path]:
    """Return the images below a folder, sorted by name, without what is hidden."""
    result = (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    shown = (p for p in result if not any(n.startswith(".") for n in p.relative_to(folder).parts))
    return sorted(path for path in shown if path.is_file())


_SUFFIXES = {".jpeg", ".jpg", ".png", ".ppm", ".bmp", ".webp", ".tif", ".tiff"}
