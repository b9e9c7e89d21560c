"""JPEGs that take as long to decode as photographs: cut from scikit-learn's two photographs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)  # width, height: the mean of ImageNet
QUALITY = 97  # 110 KB, as in ImageNet
CLASSES = 10


def write_photographs(root: Path, count: int, seed: int = 0) -> None:
    """Write photographs to root/train/<class>, cut at random from two sources in turn.

    Args:
        root: the folder.
        count: number of photographs.
        seed: of the cuts.
    """
    from sklearn.datasets import load_sample_images

    sources = load_sample_images().images
    random = np.random.default_rng(seed)
    width, height = SIZE
    for number in range(count):
        source = sources[number % 2]
        top = random.integers(0, source.shape[0] - height + 1)
        left = random.integers(0, source.shape[1] - width + 1)
        picture = source[top : top + height, left : left + width]
        if number % 4 > 1:
            picture = picture[:, ::-1]
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, format="JPEG", quality=QUALITY)
        path = root / "train" / f"class{number % CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
