"""scikit-learn's handwritten digits: embedded, so that the first run needs no download."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lotus_ray import seeds
from lotus_ray.data.sources.images import HELDOUT, TRAIN, Images, Sample


def open_digits(root: Path | None) -> Images:
    """Return the 1,797 digits."""
    return Images(classes=tuple(str(digit) for digit in range(10)), samples=_samples)


def _samples(split: str) -> Iterator[Sample]:
    """Yield the digits of a split as 8×8 PNGs; a fifth is held out by id."""
    from PIL import Image
    from sklearn.datasets import load_digits

    scans = load_digits()
    pixels = np.rint(scans.images * (255 / 16)).astype(np.uint8)
    for number, (image, label) in enumerate(zip(pixels, scans.target, strict=True)):
        sample_id = f"digits/{number:04d}"
        is_heldout = seeds.seed_for("digits", "heldout", sample_id) % 5 == 0
        if is_heldout != (split == HELDOUT):
            continue
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, format="PNG")
        yield Sample(
            sample_id=sample_id,
            split=HELDOUT if is_heldout else TRAIN,
            image=encoded.getvalue(),
            path=f"{number:04d}.png",
            label=int(label),
        )
