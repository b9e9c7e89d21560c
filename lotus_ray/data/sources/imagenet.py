"""ImageNet-1K, read from the tar files of ILSVRC2012 without unpacking them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from lotus_ray.base.errors import DataError
from lotus_ray.data.sources.images import (
    HELDOUT,
    TRAIN,
    Images,
    Item,
    existing,
    index_of,
    read_bytes,
)

NAME = "imagenet"
TRAIN_TAR = "ILSVRC2012_img_train.tar"  # a tar of one tar per class
VAL_TAR = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"  # holds the labels of val
LAYOUT = f"{TRAIN_TAR}, {VAL_TAR} and {DEVKIT}"


def open_imagenet(root: Path | None) -> Images:
    """Return the data set of the three tar files in a folder. Classes are WordNet ids, sorted.

    Classes are ids and not names, because four classes share their first name with another one.

    Args:
        root: the folder with the tar files; None is the current folder.

    Raises:
        DataError: a tar file is missing, damaged, or does not match the others.
    """
    base = (root or Path()).absolute()
    train, val, devkit = (existing(base / n, NAME, LAYOUT) for n in (TRAIN_TAR, VAL_TAR, DEVKIT))
    titles, truth = _read_devkit(devkit)
    labels = {wnid: label for label, wnid in enumerate(sorted(titles))}
    items = [*_train(train, labels), *_val(val, truth, labels)]
    return Images(
        classes=tuple(labels),
        index=index_of(items),
        read=read_bytes,
        titles=tuple(titles[wnid] for wnid in labels),
    )


def _train(path: Path, labels: dict[str, int]) -> Iterator[Item]:
    for outer in _members(path, 0, path.stat().st_size):
        wnid = Path(outer.name).stem
        if wnid not in labels:
            raise DataError(f"{outer.name} is no class of {DEVKIT}", where=str(path))
        for inner in _members(path, outer.offset_data, outer.size):
            sample_id = f"train/{wnid}/{Path(inner.name).name}"
            offset = outer.offset_data + inner.offset_data
            yield Item(sample_id, TRAIN, labels[wnid], str(path), offset, inner.size)


def _val(path: Path, truth: list[str], labels: dict[str, int]) -> Iterator[Item]:
    result = sorted(_members(path, 0, path.stat().st_size), key=lambda member: member.name)
    if len(result) != len(truth):
        raise DataError(
            f"it holds {len(result)} images, and {DEVKIT} has {len(truth)} labels", where=str(path)
        )
    for member, wnid in zip(result, truth, strict=True):
        sample_id = f"val/{Path(member.name).name}"
        yield Item(sample_id, HELDOUT, labels[wnid], str(path), member.offset_data, member.size)


class _Window(io.RawIOBase):
    """A byte range of a file, as a file."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb")
        self._start, self._size, self._position = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._position, 0)
        self._file.seek(self._start + self._position)
        content = self._file.read(left if size < 0 else min(size, left))
        self._position += len(content)
        return content

    def close(self) -> None:
        self._file.close()
        super().close()


def _members(path: Path, start: int, size: int) -> list[tarfile.TarInfo]:
    """Return the files in a tar that is a byte range of a file. Only headers are read.

    Raises:
        DataError: it is not a tar, or is cut off.
    """
    try:
        with _Window(path, start, size) as window, tarfile.open(fileobj=window, mode="r:") as tar:
            members = [member for member in tar.getmembers() if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"the tar cannot be read: {error}", where=f"{path} at {start}") from error
    last = max(((m.offset_data + m.size, m.name) for m in members), default=(0, ""))
    if last[0] > size:
        raise DataError(f"the tar is cut off within {last[1]}", where=f"{path} at {start}")
    return members


def _read_devkit(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the title of each class by WordNet id, and the class of each image of val."""
    from scipy.io import loadmat

    try:
        with tarfile.open(path) as tar:
            names = {Path(name).name: name for name in tar.getnames()}
            meta, truth = (
                _member(tar, names[name])
                for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
            )
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        leaves = [row for row in synsets if int(row["num_children"]) == 0]
        numbers = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in leaves}
        titles = {str(row["WNID"]): str(row["words"]) for row in leaves}
        return titles, [numbers[int(number)] for number in truth.split()]
    except Exception as error:  # bad bytes can make a parser raise any error
        raise DataError(f"the devkit cannot be read: {error}", where=str(path)) from error


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return file.read()
