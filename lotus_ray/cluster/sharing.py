"""How much of a GPU each lane of a grid takes where lanes are to share GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from lotus_ray.cluster.autoscaler import drivers_on_head
from lotus_ray.cluster.nodes import alive
from lotus_ray.cluster.session import concurrent_lanes
from lotus_ray.gpu_sharing import gpus_a_lane, lanes_a_gpu, to_measure
from lotus_ray.job.schema import Resources
from lotus_ray.job.work_order import Todo
from lotus_ray.store.results import Store

_HARDLY_ANY = 0.001  # of a GPU

Run = Callable[[list[Todo], Resources, int], object]


def shared(
    todos: list[Todo], resources: Resources, run: Run, say: Callable[[str], None]
) -> Resources:
    """Return what a lane needs where as many share a GPU as its memory holds, and as can run.

    Args:
        todos: lanes with missing cells.
        resources: what one lane needs that has a GPU of its own.
        run: runs lanes, so many at once, to measure what no row tells yet. What ends one of them
            here ends it again later, and is told then.
        say: takes a line.

    Raises:
        ClusterError: not even one lane fits.
    """
    gpus = concurrent_lanes(resources.model_copy(update={"lanes_at_once": None}), say)
    at_most = _lanes_but_for_gpus(resources, say)
    if min(at_most, len(todos)) <= gpus:
        return resources
    store = Store.open(todos[0].store)
    if first := to_measure(todos, store.rows(), gpus):
        say("first, how much of a GPU's memory a lane needs is measured")
        run(first, resources, concurrent_lanes(resources, say))
    rows = store.rows()
    ours = {cell.cell_id for todo in todos for cell in todo.lane.cells}
    fits = lanes_a_gpu(rows[cell_id] for cell_id in ours & rows.keys())
    if fits is None:
        say("no cell tells how much of a GPU's memory it needs: each lane has a GPU of its own")
        return resources
    lanes = min(fits, ceil(min(at_most, len(unsettled(todos, store))) / gpus))
    if lanes > 1:
        say(f"{lanes} lanes share a GPU, whose memory holds {fits}")
        return resources.model_copy(update={"gpus_per_worker": gpus_a_lane(lanes)})
    if fits == 1:
        say("a lane takes most of a GPU's memory: each has one of its own")
    return resources


def whole(resources: Resources) -> Resources:
    """Return the same needs with a whole GPU."""
    return resources.model_copy(update={"gpus_per_worker": 1.0})


def unsettled(todos: Sequence[Todo], store: Store) -> list[Todo]:
    """Return the lanes that have a missing cell, by one look at the store."""
    now = store.next_generations()
    return [
        todo for todo in todos if any(now[cell] <= row for cell, row in todo.generations.items())
    ]


def _lanes_but_for_gpus(resources: Resources, say: Callable[[str], None]) -> int:
    """Return how many lanes run at once if GPUs do not bound them: CPUs, the head or the job do."""
    needs = resources.model_copy(update={"gpus_per_worker": _HARDLY_ANY})
    return min(concurrent_lanes(needs, say), drivers_on_head(alive()))
