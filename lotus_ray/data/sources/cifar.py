"""CIFAR-10 and CIFAR-100 in the form that torchvision leaves on disk."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lotus_ray.data.sources.images import HELDOUT, TRAIN, Images, Sample, existing
from lotus_ray.errors import DataError

# All that the published files name. Whatever else a pickle asks for is refused before it is called.
_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True)
class _Form:
    """Where one of the two data sets keeps what."""

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
    """Return the function that opens CIFAR-10 or CIFAR-100 below a root."""

    def open_cifar(root: Path | None) -> Images:
        layout = f"{form.folder}/"
        folder = existing((root or Path()) / form.folder, form.name, layout)
        names = _read(existing(folder / form.meta, form.name, layout), form.classes)
        for files in form.files.values():
            for file in files:
                existing(folder / file, form.name, layout)
        classes = tuple(str(name) for name in names)
        return Images(classes=classes, samples=lambda split: _samples(form, folder, split))

    return open_cifar


def _samples(form: _Form, folder: Path, split: str) -> Iterator[Sample]:
    from PIL import Image

    number = 0
    kind = "test" if split == HELDOUT else "train"
    for file in form.files[split]:
        path = folder / file
        pixels, labels = np.asarray(_read(path, "data")), _read(path, form.labels)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * 32 * 32):
            raise DataError(
                f"data is {pixels.dtype} {pixels.shape}, not uint8 ({len(labels)}, 3072)",
                where=str(path),
            )
        images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for image, label in zip(images, labels, strict=True):
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, format="PNG")
            name = f"{kind}/{number:05d}"
            yield Sample(f"{form.name}/{name}", split, encoded.getvalue(), f"{name}.png", label)
            number += 1


def _read(path: Path, key: str) -> Any:
    """Return one entry of a pickled dictionary of arrays, lists and strings.

    Raises:
        DataError: it is no such file, or would call anything but the constructors of arrays.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()[key]
    except Exception as error:  # foreign bytes make a parser raise anything
        raise DataError(f"{path.name} is refused: {error}", where=str(path)) from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)
