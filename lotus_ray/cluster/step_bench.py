"""Seconds of a training step inside Ray Train, as a group of two workers takes it."""

from __future__ import annotations

import tempfile
import uuid
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer

from lotus_ray.bench.step_loop import WORKERS, step_seconds
from lotus_ray.cluster.session import session
from lotus_ray.cluster.worker import joined_workers


def ray_step_seconds(steps: int) -> list[float]:
    """Start Ray, run the loop of `lotus_ray.bench.step_loop` in Ray Train, and end Ray.

    Ray runs for this loop alone, so that what its own processes take is on its bill and not on
    torchrun's.
    """
    with tempfile.TemporaryDirectory() as scratch, session():
        result = TorchTrainer(
            _loop,
            train_loop_config={"steps": steps},
            scaling_config=ray.train.ScalingConfig(
                num_workers=WORKERS, resources_per_worker={"CPU": 1.0}
            ),
            run_config=ray.train.RunConfig(storage_path=scratch, name=uuid.uuid4().hex),
        ).fit()
    found: list[float] = result.return_value
    return found


def _loop(config: dict[str, Any]) -> list[float]:
    return step_seconds(joined_workers(ray.train.torch.get_device()), config["steps"])
