"""Run lanes in this process, one after another, without Ray: breakpoints work."""

from __future__ import annotations

import torch

from lotus_ray.data.pieces import wanted_pieces
from lotus_ray.data.warm import read_pixels
from lotus_ray.errors import ClusterError
from lotus_ray.job_schema import Resources
from lotus_ray.lane import Todo, load_roles, machine_facts, run_lane
from lotus_ray.problem import Workers


def run_lanes(todos: list[Todo], resources: Resources) -> None:
    """Run every missing cell of some lanes here, on one worker.

    Args:
        todos: lanes with missing cells.
        resources: its CPUs a worker become threads; a GPU is used where one is asked for.
    """
    torch.set_num_threads(resources.cpus_per_worker)
    device = torch.device("cuda" if resources.gpus_per_worker else "cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ClusterError(
            "this machine has no GPU that torch can use",
            where="resources.gpus_per_worker",
            next_command="lotus-ray grid JOB.yaml --local --set resources.gpus_per_worker=0",
        )
    for todo in todos:
        lane = todo.lane
        roles = load_roles(todo)
        pieces = wanted_pieces(lane.manifests, roles)
        pixels = read_pixels(pieces, roles, lane.transform, resources.cpus_per_worker)
        run_lane(todo, pixels, roles, Workers(), device, machine_facts(device, workers=1))
