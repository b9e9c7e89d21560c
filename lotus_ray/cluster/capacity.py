"""How many trials a cluster can run at once. Jobs that can never fit are rejected here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from lotus_ray.cluster import autoscaler, waiting
from lotus_ray.cluster.autoscaler import NodeType
from lotus_ray.cluster.environment import check_environment, cluster_address
from lotus_ray.cluster.misfit import cannot_fit, too_small
from lotus_ray.cluster.nodes import fitting_trials, live_nodes, max_workers, needs
from lotus_ray.job.schema.resources import Resources

TRIAL_DRIVER_BYTES = 3 << 29  # of the head: a trial, its Train controller and helpers (1.3 GiB)


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


def trials_when_grown(resources: Resources, types: Sequence[NodeType]) -> int:
    """Return how many trials a cluster can grow to run at once, with all drivers on its head.

    Raises:
        ClusterError: not even one fits on the fully grown cluster.
    """
    nodes = live_nodes()
    workers = max_workers(resources, nodes, types)
    trials = resources.trials_on(workers)
    if not trials:
        possible = [*nodes, *(kind.resources for kind in types)]
        raise cannot_fit(resources, possible, workers, "its autoscaler can add none")
    return min(trials, _drivers_on_head(nodes))


def _drivers_on_head(nodes: Iterable[Mapping[str, float]]) -> int:
    """Return how many trial drivers fit in the memory of the head; at least one."""
    heads = [node for node in nodes if "node:__internal_head__" in node]
    return max(sum(int(node.get("memory", 0) / TRIAL_DRIVER_BYTES) for node in heads), 1)


def check_this_machine(resources: Resources) -> None:
    """Reject a job that obviously cannot run on this machine, before anything is written.

    `concurrent_trials` is the full check.

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
