"""The data path beside torchvision and a DataLoader: decoding, warm epochs, the first batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from lotus_ray.bench.photographs import write_photographs
from lotus_ray.bench.scoreboard import Figure, medians, seconds_of
from lotus_ray.cluster.pipelines import collect_pixels, decode_images
from lotus_ray.cluster.session import session
from lotus_ray.data.images import Transform, decode_all
from lotus_ray.data.pieces import wanted_pieces
from lotus_ray.data.preflight import read_labels
from lotus_ray.data.prepare import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.data.splits import Roles
from lotus_ray.data.warm import WarmSet
from lotus_ray.problem import Workers
from lotus_ray.roles import RETAIN, STORED

THREADS = 2
BATCH = 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXACT = Transform(224, 0.875, "bilinear", MEAN, STD)
FAST = replace(EXACT, decoder="fast")


def measure(images: int, repeats: int) -> tuple[dict[str, Figure], dict[str, float]]:
    """Measure C1, C2, C3, C5 and C10 of the scoreboard.

    Args:
        images: how many photographs to make.
        repeats: of each measurement, after one that warms up.

    Returns:
        Figures by scoreboard id, and images a second by name.
    """
    with tempfile.TemporaryDirectory(prefix="lotus-ray-bench-") as scratch:
        root = Path(scratch) / "photographs"
        write_photographs(root, images)
        prepared = prepare(SOURCES["image_folder"], Path(scratch) / "shards", root)
        with session():
            return _measure(root, prepared.directory, read_labels(prepared), repeats)


def _measure(
    root: Path, shards: Path, labels: Any, repeats: int
) -> tuple[dict[str, Figure], dict[str, float]]:
    count = len(labels)
    roles = Roles(
        labels["sample_id"].to_pylist(),
        labels["label"].to_numpy(),
        np.full(count, STORED.index(RETAIN), np.int8),
        int(labels["label"].to_numpy().max()) + 1,
    )
    pieces = wanted_pieces([shards], roles)
    encoded = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))]
    loader = _loader(root, persistent=True)
    decoded = decode_images(pieces, FAST)
    warm = WarmSet(
        collect_pixels(decoded.iterator(), roles, FAST),
        roles,
        FAST,
        0,
        torch.device("cpu"),
        torch.float32,
        Workers(),
    )

    def rate(work: Callable[[], object], of: int = count) -> Callable[[], float]:
        return lambda: of / seconds_of(work)

    rates = medians(
        repeats,
        **{
            "Ray stage, fast decoder": rate(lambda: decode_images(pieces, FAST)),
            "Ray stage, exact decoder": rate(lambda: decode_images(pieces, EXACT)),
            "bare loop, fast decoder": rate(lambda: _bare_loop(encoded, FAST)),
            "bare loop, exact decoder": rate(lambda: _bare_loop(encoded, EXACT)),
            "warm epoch": rate(lambda: _walk(warm.split(RETAIN).shuffled(BATCH, 0))),
            "DataLoader, 2 workers": rate(lambda: _walk(loader)),
        },
    )
    first = medians(
        1,
        ours=lambda: seconds_of(lambda: _first_batch(pieces, roles)),
        theirs=lambda: seconds_of(lambda: next(iter(_loader(root, context="spawn")))),
    )
    stage, plain = rates["Ray stage, fast decoder"], rates["DataLoader, 2 workers"]
    bare = rates["bare loop, fast decoder"]
    delivered = sum(len(piece.rows) for piece in pieces)
    figures = {
        "C1": Figure("Ray decode stage ÷ bare loop", stage / bare, 0.85, True, repeats),
        "C2": Figure("cold images/s ÷ DataLoader", stage / plain, 2.2, True, repeats),
        "C3": Figure("warm images/s ÷ DataLoader", rates["warm epoch"] / plain, 30, True, repeats),
        "C5": Figure(
            "time to first batch ÷ DataLoader (spawn)", first["ours"] / first["theirs"], 1, False, 1
        ),
        "C10": Figure("decodes of each unique image", delivered / count, 1, False, 1),
    }
    return figures, rates


def _bare_loop(encoded: list[bytes], transform: Transform) -> None:
    """Decode from memory on threads, each of which does nothing else."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    decode_all(encoded, transform, [""] * len(encoded), THREADS)
    torch.set_num_threads(threads)


def _first_batch(pieces: Any, roles: Roles) -> object:
    """Decode all images on Ray, which runs already, and make a batch of them."""
    pixels = collect_pixels(decode_images(pieces, FAST).iterator(), roles, FAST)
    device, dtype = torch.device("cpu"), torch.float32
    warm = WarmSet(pixels, roles, FAST, 0, device, dtype, Workers())
    return next(iter(warm.split(RETAIN).shuffled(BATCH, 0)))


def _walk(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def _loader(root: Path, persistent: bool = False, context: str | None = None) -> DataLoader[Any]:
    """Return what a script would use: ImageFolder, torchvision's transforms, two workers."""
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
