"""What a worker of Ray Train knows of its group: the others, and when its node leaves."""

from __future__ import annotations

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lotus_ray.cluster import ray_private
from lotus_ray.models.batch_norm import synchronise_batch_norm
from lotus_ray.unlearning.contract import Workers


def join_workers() -> tuple[Workers, torch.device]:
    """Return the workers of this process's torch.distributed group, and this worker's device."""
    device = ray.train.torch.get_device()
    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Workers(leaving=ray_private.is_preempted), device

    def replicate(model: nn.Module) -> nn.Module:
        synchronise_batch_norm(model, device)
        # Running statistics follow the global batch on every worker, so nothing is broadcast.
        return DistributedDataParallel(model, broadcast_buffers=False)

    workers = Workers(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        sum=_sum_over_workers,
        replicate=replicate,
        leaving=_is_leaving,
        nodes=_nodes(context.get_world_size()),
    )
    return workers, device


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
