"""The private calls of Ray 2.60 that we need. No other file imports private names.

We looked in `ray`, `ray.util.state` (needs the dashboard), `ray.autoscaler.sdk` (reports nothing)
and `ray.autoscaler.v2.sdk` (leaves out the requests that an autoscaler can never fill).
"""

from __future__ import annotations

import json
from typing import Any

import ray
from ray._private import services
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._private.state import state
from ray._raylet import Config, GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import (
    AutoscalingState,
    DrainNodeReason,
    GetClusterStatusReply,
    NodeGroupConfig,
)
from ray.train.v2._internal.execution.context import get_train_context

ALIVE = 0  # the state of a node


def read_cluster(address: str, timeout_seconds: float) -> tuple[dict[str, Any], list[Any]]:
    """Read a cluster without joining it, and so without a Ray node on this machine.

    Args:
        address: host:port of its GCS, or auto.
        timeout_seconds: of each of two requests.

    Returns:
        Its `ray_version` and `python_version`, and its live nodes: each has a
        `node_manager_address` and `resources_total`.

    Raises:
        ConnectionError: auto, and no Ray runs here.
        ray.exceptions.AuthenticationError: the cluster demands another token.
    """
    client = _client(address)
    versions = client.internal_kv_get(
        b"CLUSTER_METADATA", KV_NAMESPACE_CLUSTER, timeout=timeout_seconds
    )
    nodes = client.get_all_node_info(timeout=timeout_seconds).values()
    return json.loads(versions or b"{}"), [node for node in nodes if node.state == ALIVE]


def drain_nodes(
    address: str, machine: str, message: str, deadline_ms: int, timeout_seconds: float
) -> list[str]:
    """Say that the live nodes at an address are about to be preempted. Does not join the cluster.

    `ray drain-node` does the same for one node, whose id it wants or finds by joining.

    Args:
        address: host:port of the cluster's GCS, or auto.
        machine: address of the nodes in the cluster.
        message: why.
        deadline_ms: when they go, in milliseconds since 1970.
        timeout_seconds: of each request.

    Returns:
        Their ids; empty if no node has the address.

    Raises:
        ConnectionError: auto, and no Ray runs here; or a node refuses.
    """
    client = _client(address)
    found = client.get_all_node_info(timeout=timeout_seconds).items()
    nodes = [
        node_id.hex()
        for node_id, node in found
        if node.state == ALIVE and node.node_manager_address == machine
    ]
    reason = DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    for node in nodes:
        accepted, why = client.drain_node(
            node, reason, message, deadline_ms, timeout=timeout_seconds
        )
        if not accepted:
            raise ConnectionError(f"node {node} refuses: {why}")
    return nodes


def _client(address: str) -> GcsClient:
    host_and_port = services.canonicalize_bootstrap_address(address)
    if host_and_port is None:
        raise ConnectionError("there is no Ray running here")
    return GcsClient(address=host_and_port)


def autoscaling_state(timeout_seconds: float) -> AutoscalingState:
    """Return the last report of the joined cluster's autoscaler; empty if there is none."""
    client = GcsClient(address=ray.get_runtime_context().gcs_address)
    reply = GetClusterStatusReply()
    reply.ParseFromString(client.get_cluster_status(timeout_s=timeout_seconds))
    return reply.autoscaling_state


def node_groups() -> list[NodeGroupConfig]:
    """Return the types of node that the platform of the joined cluster reports, if it does."""
    config = state.get_cluster_config()
    return [] if config is None else list(config.node_group_configs)


def is_preempted() -> bool:
    """Return True if the node of this worker of Ray Train is about to be taken away.

    `ray.train.get_preemption_info` asks an actor, so that all workers get one answer. The actor may
    be on another node, and the death of that one would fail a worker that has nobody to agree with.
    """
    return get_train_context().preemption_context.preemption_info is not None


def demand_token() -> None:
    """Make Ray read RAY_AUTH_MODE again: it was read when Ray was imported."""
    Config.initialize("")


def print_no_errors() -> None:
    """Stop Ray from printing to stdout the last log lines of a node that died.

    Ray does it even with `log_to_driver=False`.
    """
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
