"""Whether every node of a cluster reaches the store, before anything runs."""

from __future__ import annotations

import time
from collections.abc import Callable

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lotus_ray.base.errors import ClusterError
from lotus_ray.store.results import Store
from lotus_ray.trial.inputs import store_not_shared

ANSWER_SECONDS = 120  # for a process to start on each node
SHOW_SECONDS = 5.0  # until what one node wrote to a shared folder shows on another
SHOWN = 4  # nodes that an error names
Look = Callable[[str, str], dict[str, str]]


def look_from_every_node(location: str, store_id: str) -> dict[str, str]:
    """Return for each node of a cluster, by address, why it does not reach a store, or nothing.

    A cluster of one node is that of the process that wrote the store, and is not asked.

    Raises:
        ClusterError: a node does not answer.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in _alive()}
    if len(nodes) < 2:
        return {}
    look = ray.remote(look_here)
    tasks = {
        look.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(location, store_id): node
        for node in nodes
    }
    done, late = ray.wait(list(tasks), num_returns=len(tasks), timeout=ANSWER_SECONDS)
    for task in late:
        ray.cancel(task, force=True)
    found, silent = {}, [tasks[task] for task in late]
    for task in done:
        try:
            # Two nodes may share an address, as on a machine that plays several.
            found[f"{nodes[tasks[task]]} ({tasks[task][:8]})"] = ray.get(task)
        except ray.exceptions.RayError:
            silent.append(tasks[task])
    still = {node["NodeID"] for node in _alive()}  # one that has gone needs to see nothing
    if silent := [node for node in silent if node in still]:
        raise ClusterError(
            f"{len(silent)} of {len(nodes)} nodes do not answer",
            where=_named([nodes[node] for node in silent]),
            next_command="ray status",
        )
    return found


def look_here(location: str, store_id: str) -> str:
    """Return why this node does not reach a store, or nothing where it does."""
    end = time.monotonic() + SHOW_SECONDS
    while (why := _hindrance(location, store_id)) and time.monotonic() < end:
        time.sleep(0.5)
    return why


def check_every_node(store: Store, store_id: str, look: Look = look_from_every_node) -> None:
    """Make sure that every node reaches the store: its folder is shared, or its bucket is.

    Args:
        store: the store, which has its id.
        store_id: what tells it from others.
        look: says what hinders each node.

    Raises:
        StoreError: some nodes do not see it; a folder is local, or a login is missing.
    """
    looked = look(store.location, store_id)
    blind = {node: why for node, why in looked.items() if why}
    if not blind:
        return
    reasons = ", ".join(sorted(set(blind.values())))
    raise store_not_shared(
        store,
        f"{len(blind)} of {len(looked)} nodes do not see the store: {_named(sorted(blind))}: "
        f"{reasons}",
    )


def _hindrance(location: str, store_id: str) -> str:
    try:
        return Store.open(location).access_error(store_id)
    except Exception as error:  # whatever it is, it hinders, and is to be told, not raised there
        return str(error).splitlines()[0]


def _alive() -> list[dict[str, str]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _named(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
