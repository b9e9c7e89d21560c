"""Run a function on the workers of Ray Train.

A process that keeps a place waits for its workers. Where each has one worker, it imports no torch:
many of them may stand on the head of a cluster whose nodes are still to come.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import ray.train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from lotus_ray.cluster.no_process_group import NoProcessGroup
from lotus_ray.job.schema.resources import Resources

Value = TypeVar("Value")

# Ray's list of nodes can be 20 s old when Ray decides how many workers fit. Ray then waits for
# workers that do not fit before it reads the list again. Measured on two cores, after one of two
# nodes was killed, until the other worker ran: 36 and 51 s with a wait of 10 s, 76 s with the
# default of 60 s. 16 s of each are the death and the start of the workers.
START_SECONDS = 10
GROW_SECONDS = 60.0  # between two checks for more nodes: to grow, workers restart
SLOWEST_NODE_SECONDS = 6 * 3600  # workers wait this long while another node decodes


def run_on_workers(
    function: Callable[[], Value],
    resources: Resources,
    scratch: str,
    restarts: int = 0,
    name: str = "lotus-ray",
) -> Value:
    """Call a function on every worker of a group, and return what the first worker returns.

    Args:
        function: is pickled. What it needs of torch it imports when it is called.
        resources: workers of the group, and CPUs and GPUs of each.
        scratch: folder for files of Ray Train.
        restarts: how often the workers may restart after one died.
        name: of the run, for the dashboard.

    Raises:
        ray.train.TrainingFailedError: a worker died or raised an error too often.
    """
    if resources.least_workers < resources.workers:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(START_SECONDS))
    trainer, backend = _trainer(resources)
    result = trainer(
        function,
        **backend,
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


def _trainer(resources: Resources) -> tuple[type[DataParallelTrainer], dict[str, Any]]:
    """Return the trainer of Ray, and the backend that it starts on the workers.

    TorchTrainer imports torch where it is named, which is seconds, and 0.3 GB of each place.
    """
    if resources.workers == 1:
        return DataParallelTrainer, {"backend_config": NoProcessGroup()}
    from ray.train.torch import TorchConfig, TorchTrainer

    return TorchTrainer, {"torch_config": TorchConfig(timeout_s=SLOWEST_NODE_SECONDS)}


def _num_workers(resources: Resources) -> int | tuple[int, int]:
    least, most = resources.least_workers, resources.workers
    return most if least == most else (least, most)


def _per_worker(resources: Resources) -> dict[str, float]:
    need = {"CPU": float(resources.cpus_per_worker), "GPU": resources.gpus_per_worker}
    return {name: amount for name, amount in need.items() if amount}
