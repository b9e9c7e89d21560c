"""Decode by Ray Data, on CPUs that nobody holds.

Each task takes a CPU, under Ray's accounting. So there are never more of them on a node than it has
free CPUs. Ray puts them on nodes without a GPU first.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import ray
import ray.data
import torch

from lotus_ray.base.memory import keep_freed_memory, release_memory
from lotus_ray.cluster.decode_jobs import decode_queue, run_job
from lotus_ray.cluster.decode_queue import Job

if TYPE_CHECKING:
    from ray.data import Dataset

Columns = dict[str, np.ndarray]
# Ray 2.64 removes scheduling_strategy. Until then, without it Ray spreads tasks over all nodes.
warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")


def free_cpus() -> int:
    """Return how many CPUs of the cluster nobody holds."""
    return int(ray.available_resources().get("CPU", 0))


def decode_beside(jobs: Sequence[Job], cpus: int, nodes: Sequence[str] = ()) -> None:
    """Run jobs of the decode queue that nobody has taken, `cpus` at a time; wait for all of them.

    Args:
        jobs: in any order. Jobs that write files of a node run there.
        cpus: how many run at once.
        nodes: where jobs run that write no files of a node. Empty: on any node.
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

    nodes = nodes if jobs[0].node is None else [jobs[0].node]
    pickled = [pickle.dumps(job) for job in jobs]  # so that each task gets only its own job
    for _ in mapped(run, pickled, cpus, nodes=nodes).iter_batches(batch_size=None):
        pass


def mapped(
    run: Callable[[Columns], Columns],
    pickled: Sequence[bytes],
    at_once: int,
    ahead_bytes: int | None = None,
    nodes: Sequence[str] = (),
) -> Dataset:
    """Return a data set with the results of `run` on each item, in order.

    Each item is a task, and each task takes a CPU.

    Args:
        run: takes one pickled item.
        pickled: the items.
        at_once: tasks at once.
        ahead_bytes: of results that wait.
        nodes: where tasks run. Empty: anywhere, first on nodes without a GPU.
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
        num_cpus=1,
        concurrency=at_once,
        label_selector={"ray.io/node-id": f"in({', '.join(nodes)})"} if nodes else None,
        scheduling_strategy="DEFAULT",
    )
