"""Run any function on some workers of Ray Train."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from typing import Any

import ray.train
from ray.train.torch import TorchTrainer

from lotus_ray.cluster.session import session
from lotus_ray.cluster.worker import joined_workers
from lotus_ray.unlearning.contract import Workers


def train_function(function: Callable[..., Any], workers: int, **arguments: Any) -> Any:
    """Start Ray, call `function(workers, **arguments)` on each worker, and end Ray.

    Args:
        function: a function of a module. It gets the Workers that it is one of.
        workers: how many, of one CPU each.
        arguments: further arguments.

    Returns:
        What the first worker returned.
    """
    with tempfile.TemporaryDirectory() as scratch, session():
        return (
            TorchTrainer(
                _loop,
                train_loop_config={"function": function, "arguments": arguments},
                scaling_config=ray.train.ScalingConfig(
                    num_workers=workers, resources_per_worker={"CPU": 1.0}
                ),
                run_config=ray.train.RunConfig(storage_path=scratch, name=uuid.uuid4().hex),
            )
            .fit()
            .return_value
        )


def _loop(config: dict[str, Any]) -> Any:
    workers: Workers = joined_workers(ray.train.torch.get_device())
    return config["function"](workers, **config["arguments"])
