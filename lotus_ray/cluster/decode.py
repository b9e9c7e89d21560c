"""Ray Data: jobs of the decode queue on CPUs that nobody holds, and images that stream past.

Tasks that decode into files or chunks take a CPU each, under Ray's accounting. So there are never
more of them on a node than it has free CPUs. Ray puts them on nodes without a GPU first.

Tasks that stream run on the node of the caller and reserve no CPU: `cpus` is how many CPUs the
workers leave. So a group that reserves every CPU of a node can still read.
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
from lotus_ray.cluster.decode_jobs import decode_queue, run_job
from lotus_ray.cluster.decode_queue import Job
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


def free_cpus() -> int:
    """Return how many CPUs of the cluster nobody holds."""
    return int(ray.available_resources().get("CPU", 0))


def decode_beside(jobs: Sequence[Job], cpus: int) -> None:
    """Run jobs of the decode queue that nobody has taken, `cpus` at a time; wait for all of them.

    Args:
        jobs: in any order. Jobs that write files of a node run there.
        cpus: how many run at once.
    """

    def run(items: Columns) -> Columns:
        job: Job = pickle.loads(items["item"][0])
        torch.set_num_threads(1)  # each task is one thread of work
        keep_freed_memory()
        queue = decode_queue()
        is_ours = ray.get(queue.claim.remote(job.name))
        if is_ours:
            run_job(job, queue)
        release_memory()
        return {"ran": np.array([is_ours])}

    node = jobs[0].node
    pickled = [pickle.dumps(job) for job in jobs]  # so that each task gets only its own job
    for _ in _mapped(run, pickled, cpus, node=node, num_cpus=1).iter_batches(batch_size=None):
        pass


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

    here = ray.get_runtime_context().get_node_id()
    pickled = [pickle.dumps(row_group) for row_group in row_groups]
    mapped = _mapped(run, pickled, cpus, ahead_bytes, node=here, num_cpus=0)
    for batch in mapped.iter_batches(batch_size=None, prefetch_batches=0):
        yield batch["row"], batch["pixels"]


def _mapped(
    run: Callable[[Columns], Columns],
    pickled: Sequence[bytes],
    at_once: int,
    ahead_bytes: int | None = None,
    *,
    node: str | None,
    num_cpus: int,
) -> Dataset:
    """Return a data set with the results of `run` on each item, one task per item, in order.

    Args:
        run: takes one pickled item.
        pickled: the items.
        at_once: tasks at once.
        ahead_bytes: of results that wait.
        node: where tasks run; None: anywhere, first on nodes without a GPU.
        num_cpus: of each task.
    """
    context = ray.data.DataContext.get_current()
    context.execution_options.resource_limits = ray.data.ExecutionResources(
        object_store_memory=ahead_bytes
    )
    context.raise_original_map_exception = True
    context.execution_options.preserve_order = True
    listed = ray.data.from_items(list(pickled), override_num_blocks=len(pickled))
    return listed.map_batches(
        run,
        batch_size=1,
        num_cpus=num_cpus,
        concurrency=at_once,
        label_selector=None if node is None else {"ray.io/node-id": node},
        scheduling_strategy="DEFAULT",
    )
