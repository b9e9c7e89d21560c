"""The errors for a job that does not fit: which of its resources to lower, and to what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster.nodes import need_text, needs
from lotus_ray.job.schema.resources import Resources


def cannot_fit(
    resources: Resources, nodes: Sequence[Mapping[str, float]], workers: int, why: str
) -> ClusterError:
    """Return the error for a cluster that cannot hold one trial, however long it is waited for.

    Args:
        resources: what a trial needs.
        nodes: the resources of each node that is there or may come.
        workers: how many workers they hold.
        why: no node will come.
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
        f"this cluster has no place for a trial, and {why}: {need_text(resources)}",
        where=f"resources.{field}",
        nearest=f"{fits:g}",
        next_command=f"lotus-ray grid JOB.yaml --set resources.{field}={fits:g}"
        "   (ray status lists the nodes)",
    )


def too_small(name: str, resources: Resources, largest: float) -> ClusterError:
    """Return the error for a Ray that starts here and whose node is too small for one trial.

    Args:
        name: CPU or GPU, whichever is short.
        resources: what a trial needs.
        largest: how much of it the node has.
    """
    field = "cpus_per_worker" if name == "CPU" else "gpus_per_worker"
    need = getattr(resources, field)
    workers = "workers" if resources.min_workers is None else "min_workers"
    one = "--set resources.workers=1" + (
        "" if resources.min_workers is None else " --set resources.min_workers=1"
    )
    return ClusterError(
        f"one worker needs {need:g} {name}s and one trial {resources.workers_text} workers; "
        f"the largest node has {largest:g} {name}s",
        where=f"resources.{workers} × resources.{field}",
        nearest=f"at most {largest:g} {name}s a trial",
        next_command=f"lotus-ray grid JOB.yaml {one} --set resources.{field}="
        + ("1" if name == "CPU" else "0"),
    )
