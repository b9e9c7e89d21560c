"""What runs in each Ray Train worker: join the others, gather the pixels, run the group."""

from __future__ import annotations

from functools import partial
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.machine import machine_facts
from lotus_ray.base.memory import limit_gpu_memory
from lotus_ray.cluster.decode import decode_to_files, node_cpus, stream_pixels
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models.batch_norm import synchronise_batch_norm
from lotus_ray.models.precision import use_precision
from lotus_ray.trial.images import Decoders, TrialImages, prepare_images
from lotus_ray.trial.inputs import ensure_access, load_roles
from lotus_ray.trial.run import run_group
from lotus_ray.unlearning.contract import Workers


def group_loop(config: dict[str, Any]) -> LotusRayError | None:
    """Run a group on this worker.

    Args:
        config: `work_order`; `threads`, CPU threads of this worker; `gpus`, how many it has.

    Returns:
        What is wrong with the images or the device, or None. Every attempt would meet the same
        error, so it is returned: raised, it would be tried again.
    """
    work_order, threads, gpus = config["work_order"], config["threads"], config["gpus"]
    torch.set_num_threads(threads)
    device = ray.train.torch.get_device()
    workers = joined_workers(device)
    with work_order.cache_space.locked():
        trial_images, error = _gathered(work_order, threads, device)
        wrong = [error for error in _from_all(error, workers) if error is not None]
        if trial_images is None or wrong:
            return wrong[0]
        facts = machine_facts(device, workers.size, gpus)
        facts["versions"]["ray"] = ray.__version__
        limit_gpu_memory(device, gpus)
        run_group(work_order, trial_images, workers, device, facts)
    return None


def _from_all(error: LotusRayError | None, workers: Workers) -> list[LotusRayError | None]:
    """Return what each worker has to say, on all of them."""
    said: list[LotusRayError | None] = [error] * workers.size
    if workers.size > 1:
        torch.distributed.all_gather_object(said, error)
    return said


def _gathered(
    work_order: WorkOrder, threads: int, device: torch.device
) -> tuple[TrialImages | None, LotusRayError | None]:
    """Return the images of a group, or what is wrong with them or with the device."""
    cpus = node_cpus()
    beside = ray.train.get_context().get_local_world_size()
    spare = max((cpus - beside * threads) // beside, 1)  # a worker's part of what is left
    decoders = Decoders(
        partial(decode_to_files, cpus=cpus),
        partial(stream_pixels, cpus=spare),
    )
    try:
        use_precision(work_order.group.precision, device)
        ensure_access(work_order)
        roles = load_roles(work_order)
        return prepare_images(
            work_order.group, roles, work_order.cache_space, decoders, work_order.max_bad_images
        ), None
    except LotusRayError as error:
        return None, error


def joined_workers(device: torch.device) -> Workers:
    """Return the workers of this process's torch.distributed group."""
    context = ray.train.get_context()
    if context.get_world_size() == 1:
        return Workers(leaving=is_leaving)

    def replicate(model: nn.Module) -> nn.Module:
        synchronise_batch_norm(model, device)
        # Running statistics follow the global batch on every worker, so nothing is broadcast.
        return DistributedDataParallel(model, broadcast_buffers=False)

    return Workers(
        rank=context.get_world_rank(),
        size=context.get_world_size(),
        sum=sum_over_workers,
        replicate=replicate,
        leaving=is_leaving,
    )


def is_leaving() -> bool:
    """Return whether a node of this group of workers is about to be taken away."""
    return ray.train.get_preemption_info() is not None


def sum_over_workers(tensor: Tensor) -> Tensor:
    """Return the sum of each worker's tensor; the argument stays as it is."""
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total
