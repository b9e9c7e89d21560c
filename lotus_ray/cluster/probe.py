"""Print facts about a Ray cluster as one line of JSON. Runs in a process that can be killed.

    python -m lotus_ray.cluster.probe HOST:PORT

It starts nothing and joins nothing. The token, if any, comes from the environment.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import ray

from lotus_ray.cluster import ray_private

REPLY_SECONDS = 3


def ask(address: str) -> dict[str, Any]:
    """Return versions and nodes of a cluster, or an `error` and its kind.

    Args:
        address: host:port of its GCS, or auto.

    Returns:
        `ray` and `python` of the cluster, `ours` (the Ray of this process), and the live `nodes`,
        each with address and resources; or `error` (authentication or unreachable) and `message`.
    """
    try:
        versions, nodes = ray_private.read_cluster(address, REPLY_SECONDS)
    except ray.exceptions.AuthenticationError as error:
        return {"error": "authentication", "message": _first_line(error)}
    except Exception as error:
        return {"error": "unreachable", "message": _first_line(error)}
    return {
        "ray": versions.get("ray_version"),
        "python": versions.get("python_version"),
        "ours": ray.__version__,
        "nodes": [
            {"address": node.node_manager_address, "resources": dict(node.resources_total)}
            for node in nodes
        ],
    }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1])))
