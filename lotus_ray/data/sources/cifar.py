"""CIFAR-10 and CIFAR-100, as torchvision unpacks them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lotus_ray.base.errors import DataError
from lotus_ray.data.sources.images import HELDOUT, TRAIN, Images, Item, existing, index_of


@dataclass(frozen=True)
class _Form:
    """File and key names of one of the two data sets."""

    name: str
    folder: str
    files: dict[str, tuple[str, ...]]  # by split
    meta: str
    classes: str
    labels: str


CIFAR10 = _Form(
    name="cifar10",
    folder="cifar-10-batches-py",
    files={TRAIN: tuple(f"data_batch_{n}" for n in range(1, 6)), HELDOUT: ("test_batch",)},
    meta="batches.meta",
    classes="label_names",
    labels="labels",
)
CIFAR100 = _Form(
    name="cifar100",
    folder="cifar-100-python",
    files={TRAIN: ("train",), HELDOUT: ("test",)},
    meta="meta",
    classes="fine_label_names",
    labels="fine_labels",
)


def opener(form: _Form) -> Callable[[Path | None], Images]:
    """Return the function that opens CIFAR-10 or CIFAR-100 in a root folder."""

    def open_cifar(root: Path | None) -> Images:
        layout = f"{form.folder}/"
        folder = existing((root or Path()) / form.folder, form.name, layout).absolute()
        names = list(_read(existing(folder / form.meta, form.name, layout), form.classes))
        for files in form.files.values():
            for file in files:
                existing(folder / file, form.name, layout)
        classes = tuple(str(name) for name in names)
        return Images(classes=classes, index=index_of(_items(form, folder)), read=_read_image)

    return open_cifar


def _items(form: _Form, folder: Path) -> Iterator[Item]:
    """Yield every image, in the order of the files.

    Raises:
        DataError: labels or pixels of a file have a wrong type or shape.
    """
    for split, files in form.files.items():
        number = 0
        for file in files:
            path = folder / file
            labels = _read(path, form.labels)
            pixels = _pixels(str(path))
            if not isinstance(labels, list) or not all(type(label) is int for label in labels):
                raise DataError(f"{form.labels} is no list of numbers", where=str(path))
            if pixels.shape != (len(labels), 3 * 32 * 32):
                raise DataError(
                    f"data is {pixels.shape}, not ({len(labels)}, 3072)", where=str(path)
                )
            for row, label in enumerate(labels):
                name = f"{'test' if split == HELDOUT else 'train'}/{number:05d}"
                sample_id = f"{form.name}/{name}"
                yield Item(sample_id, split, label, str(path), row, path=f"{name}.ppm")
                number += 1


def _read_image(file: str, row: int, size: int) -> bytes:
    """Return one row of a file of raw pixels as an image file.

    It is not compressed: the output of a compressor changes between versions, and cell ids depend
    on the bytes of the images.
    """
    from PIL import Image

    encoded = io.BytesIO()
    image = _pixels(file)[row].reshape(3, 32, 32).transpose(1, 2, 0)
    Image.fromarray(image).save(encoded, format="PPM")
    return encoded.getvalue()


@lru_cache(maxsize=8)
def _pixels(file: str) -> np.ndarray:
    result = _read(Path(file), "data")
    if not isinstance(result, _Array):
        raise DataError("data is no array", where=file)
    return result.pixels


def _read(path: Path, key: str) -> Any:
    """Return one entry of a pickled dictionary of arrays, lists and strings.

    Raises:
        DataError: the file is damaged, or would call more than the constructors of arrays.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()[key]
    except Exception as error:  # bad bytes can make a parser raise any error
        raise DataError(f"{path.name} is refused: {error}", where=str(path)) from error


class _Array:
    """Replaces numpy's array: accepts raw bytes of pixels and nothing else."""

    pixels: np.ndarray

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, is_fortran, raw = state
        if not isinstance(dtype, _Bytes) or is_fortran or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("an array is not of bytes in rows")
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array holds no bytes")
        self.pixels = np.frombuffer(content, np.uint8).reshape(shape)


class _Bytes:
    """Replaces numpy's type of unsigned bytes."""

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


def _array(*_: object) -> _Array:
    return _Array()


def _dtype(name: object, *_: object) -> _Bytes:
    if name != "u1":
        raise pickle.UnpicklingError(f"an array is of type {name}")
    return _Bytes()


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("a text is not Latin-1")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Reads the published files without calling the functions that they name.

    A crafted file could make numpy's own constructors read any memory address.
    """

    _stand_ins: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "dtype"): _dtype,
        ("numpy", "ndarray"): _Array,
        ("numpy.core.multiarray", "_reconstruct"): _array,
        ("numpy._core.multiarray", "_reconstruct"): _array,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._stand_ins:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._stand_ins[module, name]
