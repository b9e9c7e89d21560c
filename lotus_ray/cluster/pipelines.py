"""Ray Data: shards -> roles joined -> uint8 pixels, decoded once, in the object store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import ray.data
import torch
from torch import Tensor

from lotus_ray.data.images import Transform
from lotus_ray.data.pieces import Piece
from lotus_ray.data.splits import Roles
from lotus_ray.data.warm import PixelCollector

if TYPE_CHECKING:
    from ray.data import DataIterator, MaterializedDataset


def decode_images(pieces: Sequence[Piece], transform: Transform) -> MaterializedDataset:
    """Read and decode images, one piece of a row group a task.

    Args:
        pieces: from `wanted_pieces`.
        transform: how to make pixels.

    Returns:
        A materialised data set of `row` int64 and `pixels` uint8 [H, W, 3].

    Raises:
        DataError: an image cannot be decoded.
    """
    context = ray.data.DataContext.get_current()
    context.raise_original_map_exception = True
    # All of it is materialised, so nothing is gained by holding tasks back: by default the second
    # one waits until the first has shown how large its output is.
    context.set_config("backpressure_policies.enabled", [])
    context.op_resource_reservation_enabled = False
    shared = ray.put(list(pieces))

    def decode(places: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        (place,) = places["id"]
        torch.set_num_threads(1)  # a task has one CPU
        piece: Piece = ray.get(shared)[place]
        return piece.decode(transform)

    tasks = ray.data.range(len(pieces), override_num_blocks=len(pieces))
    return tasks.map_batches(decode, batch_size=1).materialize()


def collect_pixels(shard: DataIterator, roles: Roles, transform: Transform) -> Tensor:
    """Gather the pixels of all samples on a worker. Returns uint8 [N, 3, H, W].

    Raises:
        DataError: a sample came never, or more than once.
    """
    collector = PixelCollector(roles, transform)
    for batch in shard.iter_batches(batch_size=None, batch_format="numpy"):
        collector.add(batch["row"], batch["pixels"])
    return collector.finish()
