"""The work of each worker of a trial: prepare the images, run the group."""

from __future__ import annotations

from functools import partial

import ray
import ray.train
import torch
import torch.distributed

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.machine import machine_facts
from lotus_ray.base.memory import limit_gpu_memory
from lotus_ray.cluster.decode import decode_to_files, node_cpus, stream_pixels
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models.precision import use_precision
from lotus_ray.trial.images import Decoders, TrialImages, prepare_images
from lotus_ray.trial.inputs import ensure_access, load_roles
from lotus_ray.trial.run import run_group
from lotus_ray.unlearning.contract import Workers


def run_on_worker(
    workers: Workers, device: torch.device, work_order: WorkOrder, resources: Resources
) -> LotusRayError | None:
    """Run a group on this worker.

    Args:
        workers: the workers of the group.
        device: of this worker.
        work_order: the group.
        resources: of each worker.

    Returns:
        The error of the images or the device, or None. It is returned and not raised, because Ray
        would retry an error that was raised, and every attempt would meet it again.
    """
    threads, gpus = resources.cpus_per_worker, resources.gpus_per_worker
    torch.set_num_threads(threads)
    with work_order.cache_space.locked():
        trial_images, error = _prepare(work_order, threads, device)
        errors = [each for each in _from_all(error, workers) if each is not None]
        if trial_images is None or errors:
            return errors[0]
        facts = machine_facts(device, workers.size, gpus)
        facts["versions"]["ray"] = ray.__version__
        limit_gpu_memory(device, gpus)
        run_group(work_order, trial_images, workers, device, facts)
    return None


def _from_all(error: LotusRayError | None, workers: Workers) -> list[LotusRayError | None]:
    """Return the error of every worker, on all of them."""
    errors: list[LotusRayError | None] = [error] * workers.size
    if workers.size > 1:
        torch.distributed.all_gather_object(errors, error)
    return errors


def _prepare(
    work_order: WorkOrder, threads: int, device: torch.device
) -> tuple[TrialImages | None, LotusRayError | None]:
    """Return the images of a group, or the error of the images or the device."""
    cpus = node_cpus()
    beside = ray.train.get_context().get_local_world_size()
    spare = max((cpus - beside * threads) // beside, 1)  # CPUs that no worker uses, per worker
    decoders = Decoders(partial(decode_to_files, cpus=cpus), partial(stream_pixels, cpus=spare))
    try:
        use_precision(work_order.group.precision, device)
        ensure_access(work_order)
        roles = load_roles(work_order)
        return prepare_images(
            work_order.group, roles, work_order.cache_space, decoders, work_order.max_bad_images
        ), None
    except LotusRayError as error:
        return None, error
