"""How many trials a cluster can run at once. Jobs that can never fit are rejected here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from lotus_ray.cluster import autoscaler, waiting
from lotus_ray.cluster.autoscaler import NodeType
from lotus_ray.cluster.environment import check_environment, cluster_address
from lotus_ray.cluster.misfit import cannot_fit, too_small
from lotus_ray.cluster.nodes import fitting_trials, live_nodes, max_workers, needs
from lotus_ray.job.schema.resources import Resources


def concurrent_trials(resources: Resources, say: Callable[[str], None]) -> int:
    """Return how many trials to run at once: the job's number, or as many as fit.

    A cluster that this command joined may still grow. There, trials wait for their nodes: as many
    as the job says, or as many as the autoscaler can add nodes for, if that is known.

    Args:
        resources: of one trial.
        say: prints a line while the command waits.

    Raises:
        ClusterError: not even one trial fits, and no node will be added that changes it.
    """
    trials = fitting_trials(resources)
    if cluster_address():
        types = autoscaler.node_types()
        if types is not None:
            trials = max(trials, trials_when_grown(resources, types))
        elif not trials:
            waiting.wait_for_first_trial(resources, say)
            trials = max(fitting_trials(resources), 1)
        return resources.trials_at_once or trials
    if trials:
        return min(resources.trials_at_once or trials, trials)
    need, nodes = needs(resources), live_nodes()
    largest = {name: max(node.get(name, 0.0) for node in nodes) for name in need}
    scarce = min(need, key=lambda name: largest[name] / (need[name] or 1e-9))
    raise too_small(scarce, resources, largest[scarce])


def narrowed(resources: Resources, cells: int) -> Resources:
    """Return the resources of a place on the cluster that this command joined.

    Where more cells can run at once than places fit, a place takes fewer workers, if the job allows
    it: one cell on each of eight GPUs is done sooner than eight cells, each on all of them.

    Args:
        resources: of the job.
        cells: how many can run at once.
    """
    types = autoscaler.node_types() or ()
    workers = max_workers(resources, live_nodes(), types)
    if workers < resources.workers:
        return resources  # nodes may come of which nothing is known yet
    most = max(resources.least_workers, min(resources.workers, workers // cells))
    return resources.model_copy(update={"workers": most})


def most_places(resources: Resources, started: int) -> int:
    """Return how many places to have now: those that run, and those that wait for nodes.

    Places that wait make an autoscaler add nodes. If its limit is unknown, as many may wait as have
    started, so that a grid doubles with each wave of nodes. Without an autoscaler none waits.

    Args:
        resources: of each place.
        started: places whose workers have run.
    """
    places = fitting_trials(resources)
    if cluster_address():
        types = autoscaler.node_types()
        if types is not None:
            places = max(places, trials_when_grown(resources, types))
        elif autoscaler.read_report().exists:
            places = max(places, 2 * started)
        places = max(places, 1)
    return min(places, resources.trials_at_once or places)


def trials_when_grown(resources: Resources, types: Sequence[NodeType]) -> int:
    """Return how many places a cluster can grow to hold.

    Raises:
        ClusterError: not even one fits on the fully grown cluster.
    """
    nodes = live_nodes()
    workers = max_workers(resources, nodes, types)
    trials = resources.trials_on(workers)
    if not trials:
        possible = [*nodes, *(kind.resources for kind in types)]
        raise cannot_fit(resources, possible, workers, "its autoscaler can add none")
    return trials


def check_this_machine(resources: Resources, gpus: int | None = None) -> None:
    """Reject a job that obviously cannot run on this machine, before anything is written.

    `concurrent_trials` is the full check.

    Args:
        resources: of one trial.
        gpus: of this machine; None does not check them, which takes an import of torch.

    Raises:
        ClusterError: RAY_ADDRESS or its token is wrong; or Ray would start here, and this machine
            has too few CPUs for one trial.
    """
    check_environment()
    if cluster_address():
        return
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cpus is not None and cpus < resources.least_workers * resources.cpus_per_worker:
        raise too_small("CPU", resources, cpus)
    if gpus is not None and gpus < resources.least_workers * resources.gpus_per_worker:
        raise too_small("GPU", resources, gpus)
