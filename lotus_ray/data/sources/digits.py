"""scikit-learn's handwritten digits: embedded, so that the first run needs no download."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lotus_ray.data.sources.images import HELDOUT, TRAIN, Images, Item, index_of

TABLE = Path("datasets", "data", "digits.csv.gz")  # 64 grey values from 0 to 16, then the label


def open_digits(root: Path | None) -> Images:
    """Return the 1,797 digits as 8×8 images. About a fifth is held out, chosen by id.

    They are not compressed: the output of a compressor changes between versions, and cell ids
    depend on the bytes of the images.

    Args:
        root: not used.
    """
    classes = tuple(str(digit) for digit in range(10))
    return Images(classes=classes, index=index_of(_items()), read=_read)


def _items() -> Iterator[Item]:
    from lotus_ray.base import seeds  # imported late: it needs torch, `lotus-ray list` does not

    for number, label in enumerate(_scans()[1]):
        sample_id = f"digits/{number:04d}"
        is_heldout = seeds.seed_for("digits", "heldout", sample_id) % 5 == 0
        split = HELDOUT if is_heldout else TRAIN
        yield Item(sample_id, split, int(label), "", number, path=f"{number:04d}.ppm")


def _read(file: str, number: int, size: int) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(_scans()[0][number]).save(encoded, format="PPM")
    return encoded.getvalue()


@cache
def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Return images, uint8 [1797, 8, 8], and labels, from the table in scikit-learn's folder.

    `sklearn.datasets.load_digits` reads the same table, but importing it takes two seconds.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).parent / TABLE, delimiter=",")
    images = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return images, table[:, -1].astype(np.int64)
