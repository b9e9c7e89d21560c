"""Run one group on a group of Ray Train workers."""

from __future__ import annotations

import os
import uuid

import ray.train
from ray.train.torch import TorchConfig, TorchTrainer

from lotus_ray.base.errors import LotusRayError
from lotus_ray.cluster.death_policy import MAX_RESTARTS
from lotus_ray.cluster.worker import group_loop
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder

# Ray's list of nodes is up to 20 s old when it says how many workers fit, and it waits for workers
# that do not fit before it looks again. Measured on two cores, one of two nodes killed, until the
# worker that is left ran: 36 and 51 s with 10 s of waiting, 76 s with the default of 60 s. 16 s of
# each are the death and the start of the workers.
PLACE_SECONDS = 10
GROW_SECONDS = 60.0  # between two looks for more: to grow, workers start again from a checkpoint
SLOWEST_NODE_SECONDS = 6 * 3600  # workers wait this long for one whose node decodes


def train_group(work_order: WorkOrder, resources: Resources, scratch: str) -> None:
    """Run the missing cells of a group on its workers.

    Args:
        work_order: the group.
        resources: what its workers take.
        scratch: a folder on this machine for Ray Train's own files.

    Raises:
        LotusRayError: something is wrong with its images or the device.
        ray.train.TrainingFailedError: its workers died too often.
    """
    if resources.least_workers < resources.workers:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PLACE_SECONDS))
    result = TorchTrainer(
        group_loop,
        train_loop_config={
            "work_order": work_order,
            "threads": resources.cpus_per_worker,
            "gpus": resources.gpus_per_worker,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=_num_workers(resources),
            elastic_resize_monitor_interval_s=max(GROW_SECONDS, resources.checkpoint_seconds),
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=_per_worker(resources),
        ),
        torch_config=TorchConfig(timeout_s=SLOWEST_NODE_SECONDS),
        run_config=ray.train.RunConfig(
            storage_path=scratch,
            name=uuid.uuid4().hex,
            failure_config=ray.train.FailureConfig(max_failures=MAX_RESTARTS),
        ),
    ).fit()
    if isinstance(result.return_value, LotusRayError):
        raise result.return_value


def _num_workers(resources: Resources) -> int | tuple[int, int]:
    """Return how many workers Ray Train starts, or the smallest and the largest number."""
    least, most = resources.least_workers, resources.workers
    return most if least == most else (least, most)


def _per_worker(resources: Resources) -> dict[str, float]:
    need = {"CPU": float(resources.cpus_per_worker), "GPU": resources.gpus_per_worker}
    return {name: amount for name, amount in need.items() if amount}
