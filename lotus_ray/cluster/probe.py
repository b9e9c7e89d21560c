"""What a Ray cluster says of itself, in one line of JSON: run in a process that can be killed.

    python -m lotus_ray.cluster.probe HOST:PORT

It starts nothing, joins nothing, and needs the token of this process's environment, if any.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import ray
from ray._private import services
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._raylet import GcsClient  # type: ignore[attr-defined]

REPLY_SECONDS = 3


def ask(address: str) -> dict[str, Any]:
    """Return versions and nodes of a cluster, or an `error` and its kind.

    Args:
        address: host:port of its GCS, or auto.

    Returns:
        `ray`, `python` of the cluster, `ours` of this process, and `nodes` that are alive, each
        with its address and resources; or `error`: authentication or unreachable, and `message`.
    """
    try:
        bootstrap = services.canonicalize_bootstrap_address(address)
        if bootstrap is None:
            raise ConnectionError("there is no Ray running here")
        client = GcsClient(address=bootstrap)
        said = client.internal_kv_get(
            b"CLUSTER_METADATA", KV_NAMESPACE_CLUSTER, timeout=REPLY_SECONDS
        )
        nodes = client.get_all_node_info(timeout=REPLY_SECONDS).values()
    except ray.exceptions.AuthenticationError as error:
        return {"error": "authentication", "message": _first_line(error)}
    except Exception as error:
        return {"error": "unreachable", "message": _first_line(error)}
    known = json.loads(said or b"{}")
    return {
        "ray": known.get("ray_version"),
        "python": known.get("python_version"),
        "ours": ray.__version__,
        "nodes": [
            {"address": node.node_manager_address, "resources": dict(node.resources_total)}
            for node in nodes
            if node.state == 0  # alive
        ],
    }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1])))
