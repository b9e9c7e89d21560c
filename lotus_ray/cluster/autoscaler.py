"""What an autoscaler can still add to a cluster; no before anything runs, where that never fits.

Ray 2.60 tells nobody which types of node its autoscaler has. They are known where a platform
reports them, and on the head of a cluster that `ray up` launched, whose autoscaler runs there with
its configuration. Elsewhere (KubeRay) the autoscaler is asked: it says of a placement group whether
it can ever hold it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
import yaml
from ray._private.state import state as cluster_state
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.experimental.internal_kv import internal_kv_get_gcs_client

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster.nodes import alive, need_text, needs, workers_on
from lotus_ray.job.schema.resources import Resources

POLL_SECONDS = 2.0
REFUSED_SECONDS = 30.0  # of an autoscaler; one that is at its limit says no only for a moment
PATIENCE_SECONDS = 600.0  # with a cluster that has no autoscaler, to which somebody may add a node
TRIAL_DRIVER_BYTES = 3 << 29  # of the head: a trial, its Train controller and helpers (1.3 GiB)
_UNBOUNDED = 1_000_000  # nodes of a type that says no limit
_NODE_GROUP = "ray.io/node-group"  # what an autoscaler calls the type of a node that it started


@dataclass(frozen=True)
class NodeType:
    """A type of node that the autoscaler may add, and how many of it there may be."""

    name: str
    resources: Mapping[str, float]
    at_most: int


@dataclass(frozen=True)
class Word:
    """What an autoscaler says."""

    exists: bool = False  # whether there is one
    refused: tuple[str, ...] = ()  # requests that it can never fill: "ID:…"
    failures: tuple[str, ...] = ()  # why machines could not be had


class Group(Protocol):
    """A placement group."""

    id: Any  # with hex()

    def wait(self, timeout_seconds: float) -> bool:
        """Return whether it is placed, after so many seconds at most."""


def workers_at_most(
    resources: Resources, nodes: Iterable[Mapping[str, float]], types: Sequence[NodeType] = ()
) -> int:
    """Return how many workers nodes hold: those that are there, or each type at its limit."""
    need = needs(resources)
    here = sum(workers_on(node, need) for node in nodes)
    added = sum(workers_on(kind.resources, need) * kind.at_most for kind in types)
    return max(here, added)


def trials_to_come(resources: Resources, types: Sequence[NodeType]) -> int:
    """Return how many trials a cluster can grow to run at once, whose drivers its head bears.

    Raises:
        ClusterError: not even one fits, however far it grows.
    """
    nodes = alive()
    workers = workers_at_most(resources, nodes, types)
    trials = resources.trials_on(workers)
    if not trials:
        raise _never(resources, [*nodes, *(kind.resources for kind in types)], workers)
    return min(trials, _drivers_on_head(nodes))


def _drivers_on_head(nodes: Iterable[Mapping[str, float]]) -> int:
    """Return how many trials' drivers the memory of a cluster's head bears; at least one."""
    heads = [node for node in nodes if "node:__internal_head__" in node]
    return max(sum(int(node.get("memory", 0) / TRIAL_DRIVER_BYTES) for node in heads), 1)


def wait_for_one_trial(resources: Resources, say: Callable[[str], None]) -> None:
    """Have nodes added for a trial, and wait until they are there.

    Raises:
        ClusterError: the autoscaler can add none that fits, or nobody adds one.
    """
    bundle = {name: amount for name, amount in needs(resources).items() if amount}
    group = ray.util.placement_group([bundle] * resources.least_workers, strategy="PACK")
    try:
        await_group(group, resources, say, autoscaler_word)
    finally:
        ray.util.remove_placement_group(group)


def await_group(
    group: Group,
    resources: Resources,
    say: Callable[[str], None],
    word: Callable[[], Word],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until a placement group is placed; say what keeps it.

    Args:
        group: of one trial.
        resources: what a trial needs.
        say: takes a line.
        word: asks the autoscaler.
        clock: seconds.

    Raises:
        ClusterError: the autoscaler says for REFUSED_SECONDS that it can add nothing that fits, or
            there is none and nobody adds a node in PATIENCE_SECONDS.
    """
    start = clock()
    last_hope = start
    told: set[str] = set()
    if group.wait(POLL_SECONDS):
        return
    say(f"waiting for nodes for the first trial: {need_text(resources)}")
    while not group.wait(POLL_SECONDS):
        said = word()
        for failure in said.failures:
            if failure not in told:
                told.add(failure)
                say(f"the autoscaler could not add a node: {failure}")
        now = clock()
        if not any(request.startswith(group.id.hex()) for request in said.refused):
            last_hope = now
        if now - last_hope >= REFUSED_SECONDS:
            raise _never(resources, alive(), workers_at_most(resources, alive()))
        if not said.exists and now - start >= PATIENCE_SECONDS:
            waited = f"in {PATIENCE_SECONDS / 60:.0f} min nobody added one"
            raise _never(resources, alive(), workers_at_most(resources, alive()), waited)


def autoscaler_word() -> Word:
    """Ask the cluster's autoscaler what it says, if there is one."""
    reply = GetClusterStatusReply()
    reply.ParseFromString(internal_kv_get_gcs_client().get_cluster_status(timeout_s=POLL_SECONDS))
    said = reply.autoscaling_state
    grouped = any(node.get("Labels", {}).get(_NODE_GROUP) for node in ray.nodes())
    return Word(
        exists=grouped or said.autoscaler_state_version > 0,
        refused=tuple(request.details for request in said.infeasible_gang_resource_requests),
        failures=tuple(
            f"{failed.ray_node_type_name or failed.instance_type_name}: {failed.reason}"
            for failed in said.failed_instance_requests
        ),
    )


def node_types() -> list[NodeType] | None:
    """Return the types of node that the cluster's autoscaler may add, or None if nobody says."""
    reported = cluster_state.get_cluster_config()
    if reported is not None and reported.node_group_configs:
        return [
            NodeType(
                kind.name,
                dict(kind.resources),
                _UNBOUNDED if kind.max_count < 0 else kind.max_count,
            )
            for kind in reported.node_group_configs
        ]
    return configured_types(ray.get_runtime_context().gcs_address)


def configured_types(gcs_address: str, proc: Path = Path("/proc")) -> list[NodeType] | None:
    """Read the configuration of the autoscaler that runs on this machine for a cluster.

    Args:
        gcs_address: of the cluster.
        proc: where the system lists its processes.

    Returns:
        Its types of worker nodes; None where no such autoscaler runs here.
    """
    for file in proc.glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().decode(errors="replace").split("\0")
            options = dict(
                word.split("=", 1) for word in words if word.startswith("--") and "=" in word
            )
            path = options.get("--autoscaling-config")
            if path and options.get("--gcs-address") == gcs_address:
                return _types_of(yaml.safe_load(Path(path).expanduser().read_text()))
        except (OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError):
            continue
    return None


def _types_of(config: Mapping[str, Any]) -> list[NodeType]:
    limit = int(config.get("max_workers", _UNBOUNDED))
    return [
        NodeType(
            name,
            {key: float(amount) for key, amount in spec.get("resources", {}).items()},
            min(int(spec.get("max_workers", limit)), limit),
        )
        for name, spec in config["available_node_types"].items()
        if name != config["head_node_type"]
    ]


def _never(
    resources: Resources, nodes: Sequence[Mapping[str, float]], workers: int, why: str = ""
) -> ClusterError:
    """Say that a trial has no place, and which of its needs to lower for it to have one."""
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
        f"this cluster has no place for a trial, and {why or 'its autoscaler can add none'}: "
        f"{need_text(resources)}",
        where=f"resources.{field}",
        nearest=f"{fits:g}",
        next_command=f"lotus-ray grid JOB.yaml --set resources.{field}={fits:g}"
        "   (ray status lists the nodes)",
    )
