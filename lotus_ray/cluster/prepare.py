"""Write the shards of a data set on all nodes of a cluster. The nodes must share its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ray
from ray.exceptions import RayTaskError

from lotus_ray.cluster.session import session
from lotus_ray.data.prepared.manifest import Shard
from lotus_ray.data.prepared.shard_task import ShardTask, run_here

FEW = 4  # so few shards are written here: starting Ray would take longer


def run_on_cluster(tasks: Sequence[ShardTask]) -> Iterator[Shard]:
    """Write shards, one per CPU at a time; yield each when it is finished.

    Raises:
        DataError: an image cannot be read, or a shard cannot be written.
    """
    if len(tasks) <= FEW:
        yield from run_here(tasks)
        return
    with session():
        write = ray.remote(ShardTask.run).options(num_cpus=1)
        pending = [write.remote(task) for task in tasks]
        while pending:
            finished, pending = ray.wait(pending)
            try:
                yield from ray.get(finished)
            except RayTaskError as error:
                raise error.cause from None
