"""Run a function on the workers of Ray Train."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import TypeVar

import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lotus_ray.cluster import ray_private
from lotus_ray.cluster.no_process_group import NoProcessGroup
from lotus_ray.job.schema.resources import Resources
from lotus_ray.models.batch_norm import synchronise_batch_norm
from lotus_ray.unlearning.contract import Workers

Value = TypeVar("Value")

# Ray's list of nodes can be 20 s old when Ray decides how many workers fit. Ray then waits for
# workers that do not fit before it reads the list again. Measured on two cores, after one of two
# nodes was killed, until the other worker ran: 36 and 51 s with a wait of 10 s, 76 s with the
# default of 60 s. 16 s of each are the death and the start of the workers.
START_SECONDS = 10
GROW_SECONDS = 60.0  # between two checks for more nodes: to grow, workers restart
SLOWEST_NODE_SECONDS = 6 * 3600  # workers wait this long while another node decodes


def run_on_workers(
    function: Callable[[Workers, torch.device], Value],
    resources: Resources,
    scratch: str,
    restarts: int = 0,
    name: str = "lotus-ray",
) -> Value:
    """Call a function on every worker of a group, and return what the first worker returns.

    Args:
        function: takes the workers and this worker's device. It is pickled.
        resources: workers of the group, and CPUs and GPUs of each.
        scratch: folder for files of Ray Train.
        restarts: how often the workers may restart after one died.
        name: of the run, for the dashboard.

    Raises:
        ray.train.TrainingFailedError: a worker died or raised an error too often.
    """
    if resources.least_workers < resources.workers:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_SECONDS))

    def work() -> Value:  # by value: Ray's controller never opens it, and so never imports torch
        device = ray.train.torch.get_device()
        return function(_join_workers(device), device)

    result = TorchTrainer(
        work,
        torch_config=(
            NoProcessGroup()
            if resources.workers == 1
            else TorchConfig(timeout_s=SLOWEST_NODE_SECONDS)
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=_num_workers(resources),
            elastic_resize_monitor_interval_s=max(GROW_SECONDS, resources.checkpoint_seconds),
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=_per_worker(resources),
        ),
        run_config=ray.train.RunConfig(
            storage_path=scratch,
            name=f"{name}-{uuid.uuid4().hex}",
            failure_config=ray.train.FailureConfig(max_failures=restarts),
        ),
    ).fit()
    value: Value = result.return_value
    return value


def _num_workers(resources: Resources) -> int | tuple[int, int]:
    least, most = resources.least_workers, resources.workers
    return most if least == most else (least, most)


def _per_worker(resources: Resources) -> dict[str, float]:
    need = {"CPU": float(resources.cpus_per_worker), "GPU": resources.gpus_per_worker}
    return {name: amount for name, amount in need.items() if amount}


def _join_workers(device: torch.device) -> Workers:
    """Return the workers of this process's torch.distributed group."""
    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Workers(leaving=ray_private.is_preempted)

    def replicate(model: nn.Module) -> nn.Module:
        synchronise_batch_norm(model, device)
        # Running statistics follow the global batch on every worker, so nothing is broadcast.
        return DistributedDataParallel(model, broadcast_buffers=False)

    return Workers(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        sum=_sum_over_workers,
        replicate=replicate,
        leaving=_is_leaving,
        nodes=_nodes(context.get_world_size()),
    )


def _nodes(size: int) -> tuple[int, ...]:
    """Return the number of the node of each worker, by rank. Every worker calls this."""
    ids: list[str] = [""] * size
    torch.distributed.all_gather_object(ids, ray.get_runtime_context().get_node_id())
    return tuple(sorted(set(ids)).index(each) for each in ids)


def _is_leaving() -> bool:
    """True if a node of this group of workers is about to be taken away."""
    return ray.train.get_preemption_info() is not None


def _sum_over_workers(tensor: Tensor) -> Tensor:
    """Return the sum of each worker's tensor. The argument does not change."""
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total
