"""Where images come from: each source yields encoded images with ids, labels and a split."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lotus_ray import seeds
from lotus_ray.errors import JobError, nearest

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
class Source:
    """A data set that `prepare` can read."""

    name: str
    description: str
    classes: tuple[str, ...]
    samples: Callable[[], Iterator[Sample]]


def _digits() -> Iterator[Sample]:
    """Yield scikit-learn's 1,797 handwritten digits as 8×8 PNGs; a fifth is held out by id."""
    from PIL import Image
    from sklearn.datasets import load_digits

    scans = load_digits()
    pixels = np.rint(scans.images * (255 / 16)).astype(np.uint8)
    for number, (image, label) in enumerate(zip(pixels, scans.target, strict=True)):
        sample_id = f"digits/{number:04d}"
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, format="PNG")
        heldout = seeds.seed_for("digits", "heldout", sample_id) % 5 == 0
        yield Sample(
            sample_id=sample_id,
            split=HELDOUT if heldout else TRAIN,
            image=encoded.getvalue(),
            path=f"{number:04d}.png",
            label=int(label),
        )


SOURCES: dict[str, Source] = {
    "digits": Source(
        name="digits",
        description="scikit-learn's 1,797 handwritten digits (8x8), embedded: needs no download",
        classes=tuple(str(digit) for digit in range(10)),
        samples=_digits,
    )
}


def find(name: str, where: str = "") -> Source:
    """Return an entry of SOURCES.

    Raises:
        JobError: there is none of this name; the text gives the nearest.
    """
    if name not in SOURCES:
        raise JobError(
            f"unknown embedded data set '{name}'",
            where=where,
            nearest=nearest(name, SOURCES),
            next_command="lotus-ray list datasets",
        )
    return SOURCES[name]
