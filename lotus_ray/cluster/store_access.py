"""Check that every node of a cluster sees the store, before anything runs."""

from __future__ import annotations

import time
from collections.abc import Callable

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lotus_ray.base.errors import ClusterError
from lotus_ray.store.results import Store
from lotus_ray.trial.inputs import store_not_shared

ANSWER_SECONDS = 120  # for a process to start on each node
SHOW_SECONDS = 5.0  # until a file that one node wrote to a shared folder shows on another
MAX_NAMES = 4  # nodes that an error names
AskNodes = Callable[[str, str], dict[str, str]]


def access_errors(location: str, mark: str) -> dict[str, str]:
    """Ask every node of the cluster why it does not see a store.

    A single node is not asked, because the process that wrote the store runs there.

    Args:
        location: of the store.
        mark: the unique id of the store.

    Returns:
        The reason by address of each node; empty if the node sees the store.

    Raises:
        ClusterError: a node does not answer.
    """
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in _alive()}
    if len(nodes) < 2:
        return {}
    ask = ray.remote(access_error_here)
    tasks = {
        ask.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(location, mark): node
        for node in nodes
    }
    done, late = ray.wait(list(tasks), num_returns=len(tasks), timeout=ANSWER_SECONDS)
    for task in late:
        ray.cancel(task, force=True)
    errors, silent = {}, [tasks[task] for task in late]
    for task in done:
        try:
            # Two nodes may share an address, as on a machine that plays several.
            errors[f"{nodes[tasks[task]]} ({tasks[task][:8]})"] = ray.get(task)
        except ray.exceptions.RayError:
            silent.append(tasks[task])
    still_alive = {node["NodeID"] for node in _alive()}  # ignore nodes that died meanwhile
    if silent := [node for node in silent if node in still_alive]:
        raise ClusterError(
            f"{len(silent)} of {len(nodes)} nodes do not answer",
            where=_first_names([nodes[node] for node in silent]),
            next_command="ray status",
        )
    return errors


def access_error_here(location: str, mark: str) -> str:
    """Return why this node does not see a store, or an empty text if it does."""
    end = time.monotonic() + SHOW_SECONDS
    while (why := _access_error(location, mark)) and time.monotonic() < end:
        time.sleep(0.5)
    return why


def check_every_node(store: Store, mark: str, ask_nodes: AskNodes = access_errors) -> None:
    """Check that every node sees the store: its folder is shared, or its bucket can be used.

    Args:
        store: the store.
        mark: its unique id.
        ask_nodes: returns the error of each node.

    Raises:
        StoreError: some nodes do not see the store: a folder is local, or credentials are missing.
    """
    errors = ask_nodes(store.location, mark)
    failed = {node: why for node, why in errors.items() if why}
    if not failed:
        return
    reasons = ", ".join(sorted(set(failed.values())))
    raise store_not_shared(
        store,
        f"{len(failed)} of {len(errors)} nodes do not see the store: "
        f"{_first_names(sorted(failed))}: {reasons}",
    )


def _access_error(location: str, mark: str) -> str:
    try:
        return Store.open(location).access_error(mark)
    except Exception as error:  # the caller is on another node and needs a text
        return str(error).splitlines()[0]


def _alive() -> list[dict[str, str]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _first_names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
