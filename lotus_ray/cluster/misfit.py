"""Errors for a job that does not fit. They say which resource to lower, and to what value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster.nodes import need_text, needs
from lotus_ray.job.schema.resources import Resources


def cannot_fit(
    resources: Resources, nodes: Sequence[Mapping[str, float]], workers: int, why: str
) -> ClusterError:
    """Return the error for a cluster on which a trial can never fit.

    Args:
        resources: of one trial.
        nodes: the resources of each node that exists or may be added.
        workers: how many workers fit on these nodes.
        why: no other node will be added.
    """
    need = needs(resources)
    most_gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    enough_gpus = [node for node in nodes if node.get("GPU", 0.0) >= need["GPU"]]
    most_cpus = max((node.get("CPU", 0.0) for node in enough_gpus), default=0.0)
    if not enough_gpus:
        field, fits = "gpus_per_worker", most_gpus
    elif most_cpus < need["CPU"]:
        field, fits = "cpus_per_worker", max(most_cpus, 1)
    else:
        field = "workers" if resources.min_workers is None else "min_workers"
        fits = max(workers, 1)
    return ClusterError(
        f"a trial does not fit on this cluster, and {why}: {need_text(resources)}",
        where=f"resources.{field}",
        nearest=f"{fits:g}",
        next_command=f"lotus-ray grid JOB.yaml --set resources.{field}={fits:g}"
        "   (ray status lists the nodes)",
    )


def too_small(name: str, resources: Resources, largest: float) -> ClusterError:
    """Return the error for a Ray on this machine, if the machine is too small for one trial.

    Args:
        name: CPU or GPU: the resource that is too small.
        resources: of one trial.
        largest: how much of it the node has.
    """
    field = "cpus_per_worker" if name == "CPU" else "gpus_per_worker"
    need = getattr(resources, field)
    workers = "workers" if resources.min_workers is None else "min_workers"
    fits = int(largest / need + 1e-4) if need else 0
    fewer = f"--set resources.workers={max(fits, 1)}"
    if resources.min_workers is not None:
        fewer += f" --set resources.min_workers={max(fits, 1)}"
    if not fits:
        fewer += f" --set resources.{field}=" + ("1" if name == "CPU" else "0")
    return ClusterError(
        f"one worker needs {_count(need, name)} and one trial {resources.workers_text} workers; "
        f"the largest node has {_count(largest, name)}",
        where=f"resources.{workers} × resources.{field}",
        nearest=f"at most {_count(largest, name)} per trial",
        next_command=f"lotus-ray grid JOB.yaml {fewer}",
    )


def _count(number: float, name: str) -> str:
    return f"{number:g} {name}" + ("" if number == 1 else "s")
