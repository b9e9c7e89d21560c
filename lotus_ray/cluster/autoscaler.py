"""Read from a cluster's autoscaler which nodes it can add, and what it reports.

Ray 2.60 lists the types of node in two cases only: if the platform reports them, and on the head of
a cluster that `ray up` launched, where the autoscaler runs with its configuration. In other
clusters (KubeRay) we ask the autoscaler whether it can ever place a placement group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from lotus_ray.cluster import ray_private

REPLY_SECONDS = 2.0
_UNBOUNDED = 1_000_000  # nodes of a type without a limit
_NODE_GROUP = "ray.io/node-group"  # label of nodes that an autoscaler started


@dataclass(frozen=True)
class NodeType:
    """A type of node that the autoscaler may add, and the largest number of such nodes."""

    name: str
    resources: Mapping[str, float]
    max_nodes: int


@dataclass(frozen=True)
class Report:
    """The report of an autoscaler."""

    exists: bool = False  # True if the cluster has an autoscaler
    infeasible: tuple[str, ...] = ()  # requests that it can never fill: "ID:…"
    failures: tuple[str, ...] = ()  # why machines could not be started


def read_report() -> Report:
    """Read the report of this cluster's autoscaler."""
    state = ray_private.autoscaling_state(REPLY_SECONDS)
    has_groups = any(node.get("Labels", {}).get(_NODE_GROUP) for node in ray.nodes())
    return Report(
        exists=has_groups or state.autoscaler_state_version > 0,
        infeasible=tuple(request.details for request in state.infeasible_gang_resource_requests),
        failures=tuple(
            f"{failed.ray_node_type_name or failed.instance_type_name}: {failed.reason}"
            for failed in state.failed_instance_requests
        ),
    )


def node_types() -> list[NodeType] | None:
    """Return the types of node that this cluster's autoscaler may add, or None if unknown."""
    if reported := ray_private.node_groups():
        return [
            NodeType(
                kind.name,
                dict(kind.resources),
                _UNBOUNDED if kind.max_count < 0 else kind.max_count,
            )
            for kind in reported
        ]
    return configured_types(ray.get_runtime_context().gcs_address)


def configured_types(gcs_address: str, proc: Path = Path("/proc")) -> list[NodeType] | None:
    """Read the configuration of the autoscaler that runs on this machine for a cluster.

    Args:
        gcs_address: of the cluster.
        proc: where the system lists its processes.

    Returns:
        Its types of worker nodes; None if no such autoscaler runs here.
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
    """Return the types of worker nodes of a configuration of `ray up`."""
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
