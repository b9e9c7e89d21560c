"""A cluster of three nodes with a CPU each, in a process of its own that a test gives orders to.

An argument is another number of nodes. It prints the cluster's address and the ids of its nodes,
the head's first. Then it obeys lines of stdin and answers each: `kill N` takes a node away at once,
`drain N S` announces that it goes in S seconds, `add` brings another one. Ray ends the nodes with
this process, however it ends.
"""

from __future__ import annotations

import json
import sys
import time

from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.cluster.clusters import free_port


def main() -> None:
    # Ray Train asks the dashboard whether a lost place still needs its CPU, and frees it only then.
    options = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": free_port()}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    workers = int((sys.argv[1:] or ["3"])[0]) - 1
    nodes = [cluster.head_node, *(cluster.add_node(num_cpus=1) for _ in range(workers))]
    answer({"address": cluster.address, "nodes": [node.node_id for node in nodes]})
    for line in sys.stdin:
        order, *which = line.split()
        if order == "add":
            nodes.append(cluster.add_node(num_cpus=1))
            answer("added")
            continue
        node, seconds = nodes[int(which[0])], which[1:]
        if order == "kill":
            cluster.remove_node(node, allow_graceful=False)
            answer("killed")
        else:
            deadline = int((time.time() + float(seconds[0])) * 1000)
            reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
            answer(node.get_gcs_client().drain_node(node.node_id, reason, "test", deadline))


def answer(content: object) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
