"""What a cluster reads and decodes: bytes and requests of a bucket, decodes over two nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from lotus_ray.base import seeds
from lotus_ray.bench.scoreboard import Measurements, Score
from lotus_ray.cluster.decoder import Decoder
from lotus_ray.data.pixels.cache import DecodedFiles
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.chunks import ChunkFolder
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform
from lotus_ray.data.prepared.offsets import joined
from lotus_ray.data.prepared.shard_task import ROWS_PER_GROUP
from lotus_ray.data.roles.assign import Chosen, draw_roles
from lotus_ray.data.roles.table import Roles
from lotus_ray.data.sources import HELDOUT, TRAIN

CLASSES, TRAINED, HELD_OUT = 50, 1300, 50  # of a stand-in for ImageNet: images of each class
FORGET, RETAIN = 5, 45  # of each class, as in jobs/imagenet.yaml
MEAN_BYTES, SHAPE = 110_000, 4.0  # of an image: a gamma distribution
NODES = ("one", "two")
SEEDS = 3


def measure_reading() -> Measurements:
    """Count what a job with few of many images reads from a bucket. Nothing is read for it.

    The images are those that a seed draws, in the order in which `prepare` stores them.
    """
    counts = {TRAIN: TRAINED, HELDOUT: HELD_OUT}
    ids = [
        (f"{split}/{label}/{number}", label, split)
        for split, count in counts.items()
        for label in range(CLASSES)
        for number in range(count)
    ]
    names, labels, splits = zip(*sorted(ids), strict=True)
    columns = {"sample_id": names, "label": labels, "split": splits}
    roles = draw_roles(
        pa.table({name: pa.array(values) for name, values in columns.items()}),
        CLASSES,
        Chosen(per_class=FORGET),
        0,
        retain=Chosen(per_class=RETAIN),
        keep_other_train=False,
    )
    wanted = np.isin(np.array(names), roles.sample_ids)
    read = needed = requests = 0
    for split in counts:
        rows = np.flatnonzero(np.array(splits) == split)
        for offsets in _row_groups([names[row] for row in rows], wanted[rows]):
            asked = list(joined(offsets))
            requests += len(asked)
            read += sum(request.size for request in asked)
            needed += sum(size for _, size in offsets)
    about_bytes = "bytes read from a bucket ÷ needed, 50 of 1,300 images"
    about_requests = "requests to a bucket for each image"
    scores = {
        "bytes_read_vs_needed": Score("D1", about_bytes, read / needed, 1.3, False, 1),
        "requests_per_image": Score("D2", about_requests, requests / len(roles), 0.05, False, 1),
    }
    return Measurements(scores)


def _row_groups(names: Sequence[str], wanted: np.ndarray) -> Iterator[list[tuple[int, int]]]:
    """Yield offset and size of each wanted image of a split, by row group, as stored.

    Args:
        names: of all images of the split [n].
        wanted: bool [n].
    """
    keys = seeds.sample_keys(list(names))
    order = np.argsort(seeds.scores(keys, 0, "order of shards").numpy(), kind="stable")
    sizes = np.random.default_rng(0).gamma(SHAPE, MEAN_BYTES / SHAPE, len(names)).astype(int)
    for start in range(0, len(order), ROWS_PER_GROUP):
        rows = order[start : start + ROWS_PER_GROUP]
        begins = np.cumsum(sizes[rows]) - sizes[rows]
        pairs = np.stack([begins, sizes[rows]], axis=1)[wanted[rows]]
        yield [(begin, size) for begin, size in pairs.tolist()]


def measure_decodes(
    row_groups: Sequence[RowGroupImages], roles: Roles, transform: Transform, scratch: Path
) -> Measurements:
    """Count decodes of each unique image over two nodes and three seeds. Ray runs already.

    The nodes are two caches on this machine, which share nothing but a store.

    Args:
        row_groups: the images.
        roles: their table.
        transform: from encoded images to pixels.
        scratch: folder for the store and the caches.
    """
    folder = ChunkFolder(str(scratch / "store"), "bench", transform)
    decoded, unique = 0, set[str]()
    for node in NODES:
        (scratch / node).mkdir()
        cache_space = CacheSpace(0, None, str(scratch / node))
        with cache_space.locked():
            for seed in range(SEEDS):
                drawn = np.random.default_rng(seed).random(len(roles)) < 0.5
                table = roles.without({roles.sample_ids[row] for row in np.flatnonzero(~drawn)})
                files = DecodedFiles(cache_space, transform)
                decode = Decoder(0, cache_space.decode_log).once(folder)
                files.ensure(_of(row_groups, drawn), table, decode)
                decoded += files.decoded
                unique |= set(table.sample_ids)
            cache_space.clear()
    value = decoded / len(unique)
    about = f"decodes of each unique image, {len(NODES)} nodes and {SEEDS} seeds"
    return Measurements({"decodes_over_two_nodes": Score("D3", about, value, 1, False, 1)})


def _of(row_groups: Sequence[RowGroupImages], chosen: np.ndarray) -> list[RowGroupImages]:
    """Return the chosen images; their rows are those of a table without the others."""
    new_rows = np.cumsum(chosen) - 1
    parts = [row_group.only(chosen[row_group.rows]) for row_group in row_groups]
    return [replace(part, rows=new_rows[part.rows]) for part in parts if len(part)]
