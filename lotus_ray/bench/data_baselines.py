"""Baselines of the data path: a DataLoader, and a loop that only decodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from lotus_ray.data.pixels.transform import Transform, decode_all

THREADS = 2
BATCH = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def bare_loop(encoded: Sequence[bytes], transform: Transform) -> None:
    """Decode images that are in memory, on THREADS threads, and do nothing else.

    Args:
        encoded: the images.
        transform: from encoded images to pixels.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    decode_all(encoded, transform, [""] * len(encoded), THREADS)
    torch.set_num_threads(threads)


def data_loader(
    root: Path, persistent: bool = False, context: str | None = None
) -> DataLoader[Any]:
    """Return a usual DataLoader: ImageFolder, torchvision's transforms, two workers.

    Args:
        root: folder with train/<class>/.
        persistent: keep the workers between epochs.
        context: how workers start, such as spawn; default the system's.
    """
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(
        ImageFolder(str(root / "train"), steps),
        batch_size=BATCH,
        shuffle=True,
        num_workers=THREADS,
        persistent_workers=persistent,
        multiprocessing_context=context,
    )
