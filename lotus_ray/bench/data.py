"""The data path beside torchvision and a DataLoader: decoding, warm epochs, the first batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from lotus_ray.base.memory import keep_freed_memory
from lotus_ray.base.roles import RETAIN, STORED
from lotus_ray.bench.photographs import write_photographs
from lotus_ray.bench.scoreboard import Figure, medians, seconds_of
from lotus_ray.cluster.decode import decode_to_files
from lotus_ray.cluster.session import session
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.pixels.cache import DecodedFiles
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.row_groups import RowGroupImages, wanted_row_groups
from lotus_ray.data.pixels.transform import Transform, decode_all
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import SOURCES
from lotus_ray.unlearning.contract import Workers

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


@dataclass(frozen=True)
class _Photographs:
    """The images to measure on: as files, as shards, and in memory."""

    root: Path
    roles: Roles
    row_groups: list[RowGroupImages]
    encoded: list[bytes]


def _measure(
    root: Path, shards: Path, labels: Any, repeats: int
) -> tuple[dict[str, Figure], dict[str, float]]:
    roles = Roles(
        labels["sample_id"].to_pylist(),
        labels["label"].to_numpy(),
        np.full(len(labels), STORED.index(RETAIN), np.int8),
        int(labels["label"].to_numpy().max()) + 1,
    )
    encoded = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))]
    keep_freed_memory()
    photographs = _Photographs(root, roles, wanted_row_groups([shards], roles), encoded)
    with _image_dataset(photographs, FAST) as (dataset, decodes):
        return _compared(photographs, dataset, decodes, repeats)


def _compared(
    photographs: _Photographs, dataset: ImageDataset, decodes: int, repeats: int
) -> tuple[dict[str, Figure], dict[str, float]]:
    count, encoded, root = len(photographs.roles), photographs.encoded, photographs.root
    loader = _loader(root, persistent=True)

    def rate(work: Callable[[], object], of: int = count) -> Callable[[], float]:
        return lambda: of / seconds_of(work)

    rates = medians(
        repeats,
        **{
            "Ray stage, fast decoder": rate(lambda: _ray_stage(photographs, FAST)),
            "Ray stage, exact decoder": rate(lambda: _ray_stage(photographs, EXACT)),
            "bare loop, fast decoder": rate(lambda: _bare_loop(encoded, FAST)),
            "bare loop, exact decoder": rate(lambda: _bare_loop(encoded, EXACT)),
            "warm epoch": rate(lambda: _walk(dataset.split(RETAIN).shuffled(BATCH, 0))),
            "DataLoader, 2 workers": rate(lambda: _walk(loader)),
        },
    )
    first = medians(
        1,
        ours=lambda: seconds_of(lambda: _first_batch(photographs)),
        theirs=lambda: seconds_of(lambda: next(iter(_loader(root, context="spawn")))),
    )
    stage, plain = rates["Ray stage, fast decoder"], rates["DataLoader, 2 workers"]
    bare = rates["bare loop, fast decoder"]
    figures = {
        "C1": Figure("Ray decode stage ÷ bare loop", stage / bare, 0.85, True, repeats),
        "C2": Figure("cold images/s ÷ DataLoader", stage / plain, 2.2, True, repeats),
        "C3": Figure("warm images/s ÷ DataLoader", rates["warm epoch"] / plain, 30, True, repeats),
        "C5": Figure(
            "time to first batch ÷ DataLoader (spawn)", first["ours"] / first["theirs"], 1, False, 1
        ),
        "C10": Figure("decodes of each unique image", decodes / count, 1, False, 1),
    }
    return figures, rates


def _bare_loop(encoded: list[bytes], transform: Transform) -> None:
    """Decode from memory on threads, each of which does nothing else."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    decode_all(encoded, transform, [""] * len(encoded), THREADS)
    torch.set_num_threads(threads)


@contextmanager
def _image_dataset(
    photographs: _Photographs, transform: Transform
) -> Iterator[tuple[ImageDataset, int]]:
    """Decode all images on Ray into files; give them, and how many decodes that took."""
    cache_space, roles = CacheSpace(), photographs.roles
    with cache_space.locked():
        try:
            files = DecodedFiles(cache_space, transform)
            decode = partial(decode_to_files, cpus=THREADS)
            files.ensure(photographs.row_groups, roles, decode)
            device, dtype = torch.device("cpu"), torch.float32
            pixels = files.pixels(roles)
            yield ImageDataset(pixels, roles, transform, 0, device, dtype, Workers()), files.decoded
        finally:
            cache_space.clear()


def _ray_stage(photographs: _Photographs, transform: Transform) -> None:
    with _image_dataset(photographs, transform):
        pass


def _first_batch(photographs: _Photographs) -> None:
    """Decode all images on Ray, which runs already, and make a batch of them."""
    with _image_dataset(photographs, FAST) as (dataset, _):
        next(iter(dataset.split(RETAIN).shuffled(BATCH, 0)))


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
