"""Ray Data: Parquet row groups -> pixels, written to files of this node or streamed past.

Tasks run on the node of the caller and reserve no CPU. While images are decoded into files, the
workers that reserved the CPUs wait. When images stream, `cpus` is how many CPUs the workers leave.
So a group that reserves every CPU of a node can still read.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import ray
import ray.data
import torch

from lotus_ray.base.memory import keep_freed_memory, release_memory
from lotus_ray.data.pixels.decode_task import DecodeTask
from lotus_ray.data.pixels.lookup import Decoded
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform

if TYPE_CHECKING:
    from ray.data import Dataset

Columns = dict[str, np.ndarray]


def node_cpus() -> int:
    """Return how many CPUs of this node Ray may use."""
    here = ray.get_runtime_context().get_node_id()
    cpus = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["NodeID"] == here]
    return max(int(sum(cpus)), 1)


def decode_to_files(tasks: Sequence[DecodeTask], cpus: int) -> Iterator[int]:
    """Write files of decoded images, `cpus` at a time; yield how many images each holds.

    Args:
        tasks: one per file.
        cpus: how many tasks run at once.

    Raises:
        DataError: an image cannot be decoded, or a file cannot be written.
    """
    if not tasks:
        return

    def run(items: Columns) -> Columns:
        task: DecodeTask = pickle.loads(items["item"][0])
        torch.set_num_threads(1)  # each task is one thread of work
        keep_freed_memory()
        images = task.run()
        release_memory()
        return {"images": np.array([images])}

    for batch in _mapped(run, tasks, cpus).iter_batches(batch_size=None):
        yield from batch["images"].tolist()


def stream_pixels(
    row_groups: Sequence[RowGroupImages], transform: Transform, cpus: int, ahead_bytes: int
) -> Iterator[Decoded]:
    """Decode row groups, `cpus` at a time; yield rows [n] and pixels [n, 3, H, W] in their order.

    Args:
        row_groups: the images.
        transform: from encoded images to pixels.
        cpus: how many row groups are decoded at once.
        ahead_bytes: Ray Data decodes about this much before it is used.

    Raises:
        DataError: an image cannot be decoded.
    """

    def run(items: Columns) -> Columns:
        row_group: RowGroupImages = pickle.loads(items["item"][0])
        torch.set_num_threads(1)
        parts = [(encoded.rows, encoded.decode(transform)) for encoded in row_group.read()]
        rows, pixels = zip(*parts, strict=True)
        return {"row": np.concatenate(rows), "pixels": np.concatenate(pixels)}

    mapped = _mapped(run, row_groups, cpus, ahead_bytes)
    for batch in mapped.iter_batches(batch_size=None, prefetch_batches=0):
        yield batch["row"], batch["pixels"]


def _mapped(
    run: Callable[[Columns], Columns],
    items: Sequence[object],
    cpus: int,
    ahead_bytes: int | None = None,
) -> Dataset:
    """Return a data set with the results of `run` on each item, one task per item, in order."""
    context = ray.data.DataContext.get_current()
    context.execution_options.resource_limits = ray.data.ExecutionResources(
        object_store_memory=ahead_bytes
    )
    context.raise_original_map_exception = True
    context.execution_options.preserve_order = True
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    pickled = [pickle.dumps(item) for item in items]  # so that each task gets only its own item
    listed = ray.data.from_items(pickled, override_num_blocks=len(pickled))
    return listed.map_batches(run, batch_size=1, num_cpus=0, concurrency=cpus, label_selector=here)
