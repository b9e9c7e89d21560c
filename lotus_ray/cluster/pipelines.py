"""Ray Data: shards -> roles joined -> uint8 pixels, decoded once, in the object store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import ray.data
from torch import Tensor

from lotus_ray.data.images import Transform
from lotus_ray.data.splits import Roles
from lotus_ray.data.warm import PixelCollector, decode_rows

if TYPE_CHECKING:
    from ray.data import DataIterator, MaterializedDataset

ROWS_PER_TASK = 512


def decode_images(paths: Sequence[str], roles: Roles, transform: Transform) -> MaterializedDataset:
    """Read and decode every sample that plays a role.

    Args:
        paths: of the shards.
        roles: which samples are wanted; sent to each node once.
        transform: how to make pixels.

    Returns:
        A materialised data set of `row` int64 and `pixels` uint8 [H, W, 3].

    Raises:
        DataError: an image cannot be decoded.
    """
    ray.data.DataContext.get_current().raise_original_map_exception = True
    shared = ray.put(roles)

    def decode(table: pa.Table) -> dict[str, np.ndarray]:
        return decode_rows(table, ray.get(shared), transform)

    images = ray.data.read_parquet(list(paths), columns=["sample_id", "image"])
    return images.map_batches(
        decode, batch_format="pyarrow", batch_size=ROWS_PER_TASK
    ).materialize()


def collect_pixels(shard: DataIterator, roles: Roles, transform: Transform) -> Tensor:
    """Gather the pixels of all samples on a worker. Returns uint8 [N, 3, H, W].

    Raises:
        DataError: a sample came never, or more than once.
    """
    collector = PixelCollector(roles, transform)
    for batch in shard.iter_batches(batch_size=None, batch_format="numpy"):
        collector.add(batch["row"], batch["pixels"])
    return collector.finish()
