"""Run lanes in this process, one after another, without Ray: breakpoints work."""

from __future__ import annotations

from functools import partial

import torch

from lotus_ray.base.errors import ClusterError
from lotus_ray.data.pixels.cache import decode_here
from lotus_ray.data.pixels.lookup import stream_here
from lotus_ray.job.schema import Resources
from lotus_ray.job.work_order import Todo, load_roles, reach
from lotus_ray.models.precision import use_precision
from lotus_ray.trial.images import Decoders, gather
from lotus_ray.trial.row import machine_facts
from lotus_ray.trial.run import run_lane
from lotus_ray.unlearning.problem import Workers


def run_lanes(todos: list[Todo], resources: Resources) -> int:
    """Run every missing cell of some lanes here, on one worker.

    Args:
        todos: lanes with missing cells.
        resources: its CPUs a worker become threads; a GPU is used where one is asked for. How
            many workers and lanes a cluster is to run plays no part here.

    Returns:
        1, the lanes that ran at once.
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
    room = todos[0].room
    with room.occupied():
        try:
            for todo in todos:
                use_precision(todo.lane.precision, device)
                reach(todo)
                roles = load_roles(todo)
                material = gather(todo.lane, roles, room, decoders, todo.max_bad_images)
                run_lane(todo, material, Workers(), device, machine_facts(device, workers=1))
        finally:
            room.clear()
    return 1
