"""Run one group on a group of Ray Train workers."""

from __future__ import annotations

from functools import partial

from lotus_ray.cluster.death_policy import MAX_RESTARTS
from lotus_ray.cluster.train_function import run_on_workers
from lotus_ray.cluster.worker import run_on_worker
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder


def train_group(work_order: WorkOrder, resources: Resources, scratch: str) -> None:
    """Run the missing cells of a group on its workers.

    Args:
        work_order: the group.
        resources: of its workers.
        scratch: a folder on this machine for files of Ray Train.

    Raises:
        LotusRayError: the images or the device cannot be used.
        ray.train.TrainingFailedError: the workers died too often.
    """
    function = partial(run_on_worker, work_order=work_order, resources=resources)
    error = run_on_workers(function, resources, scratch, restarts=MAX_RESTARTS)
    if error is not None:
        raise error
