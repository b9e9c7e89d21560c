"""The data path beside torchvision and a DataLoader: decoding, warm epochs, the first batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lotus_ray.base.memory import keep_freed_memory
from lotus_ray.base.roles import RETAIN, STORED
from lotus_ray.bench.cluster_data import measure_decodes, measure_reading
from lotus_ray.bench.data_baselines import BATCH, MEAN, STD, bare_loop, data_loader
from lotus_ray.bench.photographs import write_photographs
from lotus_ray.bench.scoreboard import Measurements, Score
from lotus_ray.bench.timing import medians, seconds_of
from lotus_ray.cluster.decode_jobs import running_queue
from lotus_ray.cluster.decoder import Decoder
from lotus_ray.cluster.session import session
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.pixels.cache import DecodedFiles
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.data.prepared.check import read_labels
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import SOURCES
from lotus_ray.unlearning.contract import Workers

EXACT = Transform(224, 0.875, "bilinear", MEAN, STD)
FAST = replace(EXACT, decoder="fast")


def measure(images: int, repeats: int) -> Measurements:
    """Measure decoding, warm epochs and the first batch.

    Args:
        images: how many photographs to make.
        repeats: of each measurement, after one that warms up.

    Returns:
        Scores by name; images/s as rates.
    """
    with tempfile.TemporaryDirectory(prefix="lotus-ray-bench-") as scratch:
        root = Path(scratch) / "photographs"
        write_photographs(root, images)
        prepared = prepare(SOURCES["image_folder"], Path(scratch) / "shards", root, heldout=0)
        with session(), running_queue():
            return _measure(root, prepared.directory, read_labels(prepared), repeats)


@dataclass(frozen=True)
class _Photographs:
    """The images of the benchmark: as files, as shards, and in memory."""

    root: Path
    roles: Roles
    row_groups: list[RowGroupImages]
    encoded: list[bytes]


def _measure(root: Path, shards: Path, labels: Any, repeats: int) -> Measurements:
    """Measure photographs that are prepared as shards; Ray runs already."""
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
        measured = _compared(photographs, dataset, decodes, repeats)
    with tempfile.TemporaryDirectory() as scratch:
        over_nodes = measure_decodes(photographs.row_groups, roles, FAST, Path(scratch))
    measured.add(over_nodes)
    measured.add(measure_reading())
    return measured


def _compared(
    photographs: _Photographs, dataset: ImageDataset, decodes: int, repeats: int
) -> Measurements:
    """Measure everything. `decodes` is the number of images decoded for `dataset`."""
    rates = _rates(photographs, dataset, repeats)
    first_batch = medians(
        1,
        ours=lambda: seconds_of(lambda: _first_batch(photographs)),
        theirs=lambda: seconds_of(
            lambda: next(iter(data_loader(photographs.root, context="spawn")))
        ),
    )
    stage, loader = rates["Ray stage, fast decoder"], rates["DataLoader, 2 workers"]
    ratios = {
        "decode_rate": stage / rates["bare loop, fast decoder"],
        "cold_rate": stage / loader,
        "warm_rate": rates["warm epoch"] / loader,
        "first_batch": first_batch["ours"] / first_batch["theirs"],
        "decodes": decodes / len(photographs.roles),
    }
    return Measurements(_scores(ratios, repeats), rates)


def _rates(photographs: _Photographs, dataset: ImageDataset, repeats: int) -> dict[str, float]:
    """Return images/s of each way to decode images or to iterate over them."""
    encoded = photographs.encoded
    loader = data_loader(photographs.root, persistent=True)

    def rate(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: len(photographs.roles) / seconds_of(work)

    return medians(
        repeats,
        **{
            "Ray stage, fast decoder": rate(lambda: _ray_stage(photographs, FAST)),
            "Ray stage, exact decoder": rate(lambda: _ray_stage(photographs, EXACT)),
            "bare loop, fast decoder": rate(lambda: bare_loop(encoded, FAST)),
            "bare loop, exact decoder": rate(lambda: bare_loop(encoded, EXACT)),
            "warm epoch": rate(lambda: _walk(dataset.split(RETAIN).shuffled(BATCH, 0))),
            "DataLoader, 2 workers": rate(lambda: _walk(loader)),
        },
    )


def _scores(ratios: dict[str, float], repeats: int) -> dict[str, Score]:
    """Return the scores by name."""
    about_stage = "images/s of Ray's decode stage ÷ bare loop"
    about_cold, about_warm = (f"images/s of {it} images ÷ DataLoader" for it in ("cold", "warm"))
    about_first = "seconds to the first batch ÷ DataLoader (spawn)"
    return {
        "decode_rate_vs_bare_loop": Score(
            "C1", about_stage, ratios["decode_rate"], 0.85, True, repeats
        ),
        "cold_rate_vs_dataloader": Score("C2", about_cold, ratios["cold_rate"], 2.2, True, repeats),
        "warm_rate_vs_dataloader": Score("C3", about_warm, ratios["warm_rate"], 30, True, repeats),
        "first_batch_time_vs_dataloader": Score(
            "C5", about_first, ratios["first_batch"], 1, False, 1
        ),
        "decodes_per_image": Score(
            "C10", "decodes of each unique image", ratios["decodes"], 1, False, 1
        ),
    }


@contextmanager
def _image_dataset(
    photographs: _Photographs, transform: Transform
) -> Iterator[tuple[ImageDataset, int]]:
    """Decode all images on Ray into files; yield their data set and the number of decodes."""
    cache_space, roles = CacheSpace(), photographs.roles
    with cache_space.locked():
        try:
            files = DecodedFiles(cache_space, transform)
            files.ensure(photographs.row_groups, roles, Decoder(0, cache_space.decode_log).to_files)
            device, dtype = torch.device("cpu"), torch.float32
            pixels = files.pixels(roles)
            yield ImageDataset(pixels, roles, transform, 0, device, dtype, Workers()), files.decoded
        finally:
            cache_space.clear()


def _ray_stage(photographs: _Photographs, transform: Transform) -> None:
    with _image_dataset(photographs, transform):
        pass


def _first_batch(photographs: _Photographs) -> None:
    """Decode all images on Ray, which runs already, and make one batch."""
    with _image_dataset(photographs, FAST) as (dataset, _):
        next(iter(dataset.split(RETAIN).shuffled(BATCH, 0)))


def _walk(batches: Iterable[object]) -> None:
    for _ in batches:
        pass
