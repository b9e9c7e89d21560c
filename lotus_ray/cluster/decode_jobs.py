"""Run jobs of the decode queue in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster.causes import sendable
from lotus_ray.cluster.decode_queue import NAME, DecodeQueue, Job, unpacked
from lotus_ray.cluster.nodes import beside_this
from lotus_ray.data.pixels.chunks import ChunkTask
from lotus_ray.data.pixels.decode_task import DecodeTask

POLL_SECONDS = 0.05
QUEUE_SECONDS = 120.0  # for the queue to be there: it starts before any cell
FEW_BYTES = 64 << 20  # of decoded pixels: 400 images of ImageNet, 20,000 of CIFAR


@contextmanager
def running_queue() -> Iterator[None]:
    """Run the queue of this grid, beside the command. Ray starts it again if it dies."""
    again = {"max_restarts": -1, "max_task_retries": -1}
    options = {"name": NAME, "num_cpus": 0, "scheduling_strategy": beside_this(), **again}
    queue = ray.remote(DecodeQueue).options(**options).remote()
    try:
        yield
    finally:
        with suppress(ray.exceptions.RayError):
            ray.kill(queue)


def decode_queue() -> Any:
    """Return the queue of this grid, which starts before any cell.

    Raises:
        ClusterError: it is not there.
    """
    end = time.monotonic() + QUEUE_SECONDS
    while True:
        try:
            return ray.get_actor(NAME)
        except ValueError as error:
            if time.monotonic() >= end:
                raise ClusterError(
                    f"the queue of images to decode is not there after {QUEUE_SECONDS:.0f} s",
                    next_command="run the same command again: committed cells are kept",
                ) from error
            time.sleep(POLL_SECONDS)


def run_job(job: Job, queue: Any) -> None:
    """Run a job, and tell the queue how it ended."""
    try:
        task: DecodeTask | ChunkTask = unpacked(job.content)
        with job.log.decoding():
            if isinstance(task, DecodeTask):
                ended: Any = task.run()
            else:
                ended = task.run(ray.get_runtime_context().get_node_id())
    except Exception as error:  # raised where these images are waited for
        ended = sendable(error)
    ray.get(queue.ended.remote(job.name, ended))
