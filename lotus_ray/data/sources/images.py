"""The result of opening a source: an index of images, and a function that reads one."""

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
        ("file", pa.string()),  # file, offset and size are the arguments of `Images.read`
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
Read = Callable[[str, int, int], bytes]


@dataclass(frozen=True)
class Item:
    """One row of an index. If `size` is −1, the image ends with the file."""

    sample_id: str
    split: str
    label: int
    file: str
    offset: int = 0
    size: int = -1
    path: str = ""


@dataclass(frozen=True)
class Images:
    """An opened data set.

    `read(file, offset, size)` returns the encoded image of a row of `index`, in any process that
    sees the files.
    """

    classes: tuple[str, ...]
    index: pa.Table
    read: Read
    titles: tuple[str, ...] = ()  # class names for people, with commas between synonyms
    forget_ids: tuple[str, ...] = ()  # the data set's own forget set
    notes: tuple[str, ...] = ()  # which images were left out, and why


@dataclass(frozen=True)
class Source:
    """A kind of data set that `prepare` can read.

    `open` takes the folder that holds `layout`, or None if the data are embedded.
    """

    name: str
    description: str
    open: Callable[..., Images]
    layout: str = ""
    can_hold_out: bool = False  # `open` takes a second argument: the share to hold out, or None

    @property
    def embedded(self) -> bool:
        """True if the source needs no files."""
        return not self.layout


def index_of(items: Iterable[Item]) -> pa.Table:
    """Return a table of items with the columns of INDEX."""
    columns: dict[str, list[object]] = {name: [] for name in INDEX.names}
    for item in items:
        for name, values in columns.items():
            values.append(getattr(item, name))
        columns["path"][-1] = item.path or item.sample_id
    return pa.table(columns, schema=INDEX)


def read_bytes(file: str, offset: int, size: int) -> bytes:
    """Read bytes of a file.

    Args:
        file: its path.
        offset: of the first byte.
        size: number of bytes; if negative, up to the end of the file.
    """
    with Path(file).open("rb") as opened:
        opened.seek(offset)
        return opened.read(size)


def existing(path: Path, source: str, layout: str) -> Path:
    """Return a path that a source needs.

    Args:
        path: the file or folder.
        source: name of the source, for the error.
        layout: of the source, for the error.

    Raises:
        DataError: the path does not exist.
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
    """Return a file name from a table, as text.

    Args:
        name: the value in the table.
        where: the table, for the error.

    Raises:
        DataError: the name is empty or leads to another folder.
    """
    text = str(name)
    if not text or text in (".", "..") or Path(text).name != text:
        raise DataError(f"'{text}' is not the name of a file", where=str(where))
    return text
