"""Run cells in this process, one after another, without Ray: breakpoints work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch

from lotus_ray.base.errors import ClusterError
from lotus_ray.base.machine import machine_facts
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.decode_task import announcing, decode_here
from lotus_ray.data.pixels.lookup import stream_here
from lotus_ray.job.ready import ReadyTasks, tasks
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.spans import Filling, Span
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.trial.images import Decoders
from lotus_ray.trial.run import CellRunner
from lotus_ray.unlearning.contract import Workers

PLACE = "here"


def run_cells(
    work_orders: list[WorkOrder],
    resources: Resources,
    seconds: Mapping[str, float] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Filling:
    """Run every missing cell here, on one worker, in the order of a grid with one place.

    Args:
        work_orders: groups with missing cells.
        resources: `cpus_per_worker` is the number of threads. A GPU is used if `gpus_per_worker`
            is not 0. The other fields are for clusters.
        seconds: expected, by cell id; default: cells take equally long.
        say: shows a line about what is done before cells run.

    Returns:
        When each cell ran.

    Raises:
        ClusterError: the job needs a GPU, and torch cannot use one here.
        LotusRayError: the data, the store or the original of a group cannot be used.
    """
    cache_space = work_orders[0].cache_space
    ready, spans = ReadyTasks(tasks(work_orders, seconds or {})), list[Span]()
    with runner_here(resources, cache_space, say) as runner:
        stay: int | None = None  # with a group, where the images of several do not fit
        while task := ready.take(stay):
            work_order = work_orders[task.group]
            if span := runner.run(work_order, work_order.cell(task.cell_id)):
                spans.append(span)
            ready.ended(task)
            stay = task.group if runner.is_short_of_room else None
    return Filling(1, spans)


@contextmanager
def runner_here(
    resources: Resources, cache_space: CacheSpace, say: Callable[[str], None]
) -> Iterator[CellRunner]:
    """Give a runner of cells in this process. Its decoded images are removed at the end.

    Raises:
        ClusterError: the job needs a GPU, and torch cannot use one here.
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
        announcing(partial(decode_here, threads=threads), say),
        partial(stream_here, threads=threads),
    )
    with cache_space.locked():
        try:
            facts = machine_facts(device, workers=1)
            yield CellRunner(Workers(), device, facts, lambda _: decoders, PLACE)
        finally:
            cache_space.clear()
