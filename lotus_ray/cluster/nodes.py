"""The resources of a cluster's nodes, and how many workers and trials fit on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lotus_ray.cluster.autoscaler import NodeType
from lotus_ray.job.schema.resources import Resources


def needs(resources: Resources) -> dict[str, float]:
    """Return the CPUs and GPUs that one worker takes from its node."""
    return {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}


def beside_this() -> NodeAffinitySchedulingStrategy:
    """Return what puts a task or an actor on the node of this process, while that is there."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)


def live_nodes() -> list[dict[str, float]]:
    """Return the total resources of each live node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def nodes_of_cpus() -> dict[str, int]:
    """Return the live nodes that have CPUs and no GPU: how many CPUs, by id."""
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    cpus = {name: int(of.get("CPU", 0)) for name, of in nodes.items() if not of.get("GPU")}
    return {name: count for name, count in cpus.items() if count}


def fitting_trials(resources: Resources) -> int:
    """Return how many trials fit on the live nodes."""
    need = needs(resources)
    return resources.trials_on(sum(workers_on(node, need) for node in live_nodes()))


def workers_on(node: Mapping[str, float], need: Mapping[str, float]) -> int:
    """Return how many workers fit on a node. A fraction of a GPU never spans two GPUs."""
    return min(_times(node.get(name, 0.0), amount) for name, amount in need.items() if amount)


def max_workers(
    resources: Resources, nodes: Iterable[Mapping[str, float]], types: Sequence[NodeType] = ()
) -> int:
    """Return how many workers fit on the nodes, or on all node types at their limits, if more.

    Args:
        resources: of one trial.
        nodes: the resources of each node.
        types: nodes that the autoscaler may add.
    """
    need = needs(resources)
    here = sum(workers_on(node, need) for node in nodes)
    grown = sum(workers_on(kind.resources, need) * kind.max_nodes for kind in types)
    return max(here, grown)


def _times(have: float, need: float) -> int:
    """Return how many times a need fits, with Ray's precision of 1/10,000."""
    if need < 1:
        return int(have) * int(1 / need + 1e-4)
    return int(have / need + 1e-4)


def need_text(resources: Resources) -> str:
    """Return what each worker of a trial needs, for messages."""
    several = resources.workers > 1
    workers = f"each of {resources.workers_text} workers" if several else "a worker"
    cpus, gpus = resources.cpus_per_worker, resources.gpus_per_worker
    cpu, gpu = "CPU" if cpus == 1 else "CPUs", "GPU" if gpus == 1 else "GPUs"
    return f"{workers} needs {cpus} {cpu}, {gpus:g} {gpu}"
