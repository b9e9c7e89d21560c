"""Run groups in this process, one after another, without Ray: breakpoints work."""

from __future__ import annotations

from functools import partial

import torch

from lotus_ray.base.errors import ClusterError
from lotus_ray.base.machine import machine_facts
from lotus_ray.data.pixels.decode_task import decode_here
from lotus_ray.data.pixels.lookup import stream_here
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models.precision import use_precision
from lotus_ray.trial.images import Decoders, prepare_images
from lotus_ray.trial.inputs import ensure_access, load_roles
from lotus_ray.trial.run import run_group
from lotus_ray.unlearning.contract import Workers


def run_groups(work_orders: list[WorkOrder], resources: Resources) -> int:
    """Run every missing cell of some groups here, on one worker.

    Args:
        work_orders: groups with missing cells.
        resources: `cpus_per_worker` is the number of threads. A GPU is used if `gpus_per_worker`
            is not 0. The other fields are for clusters.

    Returns:
        1, the number of trials at once.

    Raises:
        ClusterError: the job needs a GPU, and torch cannot use one here.
        LotusRayError: the data, the store or the original of a group cannot be used.
    """
    threads = resources.cpus_per_worker
    torch.set_num_threads(threads)
    device = torch.device("cuda" if resources.gpus_per_worker else "cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ClusterError(
            "this machine has no GPU that torch can use",
            where="resources.gpus_per_worker",
            next_command="lotus-ray grid JOB.yaml --local --set resources.gpus_per_worker=0",
        )
    decoders = Decoders(
        partial(decode_here, threads=threads), partial(stream_here, threads=threads)
    )
    cache_space = work_orders[0].cache_space
    with cache_space.locked():
        try:
            for work_order in work_orders:
                use_precision(work_order.group.precision, device)
                ensure_access(work_order)
                roles = load_roles(work_order)
                trial_images = prepare_images(
                    work_order.group, roles, cache_space, decoders, work_order.max_bad_images
                )
                run_group(
                    work_order, trial_images, Workers(), device, machine_facts(device, workers=1)
                )
        finally:
            cache_space.clear()
    return 1
