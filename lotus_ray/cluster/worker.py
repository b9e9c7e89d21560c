"""What runs in each Ray Train worker: join the others, gather the pixels, run the lane."""

from __future__ import annotations

from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lotus_ray.cluster.pipelines import collect_pixels
from lotus_ray.lane import Todo, load_roles, machine_facts, run_lane
from lotus_ray.models.batch_norm import synchronise_batch_norm
from lotus_ray.problem import Workers

IMAGES = "images"


def lane_loop(config: dict[str, Any]) -> None:
    """Run a lane on this worker.

    Args:
        config: `todo`, a Todo; `threads`, CPU threads of this worker.
    """
    todo: Todo = config["todo"]
    torch.set_num_threads(config["threads"])
    roles = load_roles(todo)
    pixels = collect_pixels(ray.train.get_dataset_shard(IMAGES), roles, todo.lane.transform)
    device = ray.train.torch.get_device()
    workers = joined_workers(device)
    facts = machine_facts(device, workers.size)
    facts["versions"]["ray"] = ray.__version__
    run_lane(todo, pixels, roles, workers, device, facts)


def joined_workers(device: torch.device) -> Workers:
    """Return the workers of this process's torch.distributed group."""
    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Workers()

    def replicate(model: nn.Module) -> nn.Module:
        synchronise_batch_norm(model, device)
        # Running statistics follow the global batch on every worker, so nothing is broadcast.
        return DistributedDataParallel(model, broadcast_buffers=False)

    return Workers(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        sum=sum_over_workers,
        replicate=replicate,
    )


def sum_over_workers(tensor: Tensor) -> Tensor:
    """Return the sum of each worker's tensor; the argument stays as it is."""
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total
