"""Run groups with Ray Tune, one trial per group."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import ray
import ray.tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lotus_ray.cluster.capacity import concurrent_trials
from lotus_ray.cluster.causes import explain
from lotus_ray.cluster.group_trial import run_group_trial
from lotus_ray.cluster.session import session
from lotus_ray.cluster.store_access import check_every_node
from lotus_ray.cluster.train_group import train_group
from lotus_ray.cluster.waiting import say_what_is_missing
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store

CLEAR_SECONDS = 30
ON_THE_HEAD = {"node:__internal_head__": 0.001}  # a trial's driver computes nothing


class _Silent(ray.tune.ProgressReporter):  # type: ignore[misc]
    """Prints nothing, because the command reports progress from the store."""

    def should_report(self, trials: Any, done: bool = False) -> bool:
        return False

    def report(self, trials: Any, done: bool, *sys_info: Any) -> None:
        return None


def run_groups(
    work_orders: list[WorkOrder],
    resources: Resources,
    say: Callable[[str], None],
    groups_left: Callable[[], int],
    interrupted: Callable[[], None],
) -> int:
    """Run groups on Ray until every missing cell has a row.

    Args:
        work_orders: groups with missing cells, in the order in which to start them.
        resources: of one trial.
        say: prints a line while the grid waits.
        groups_left: returns how many groups are not finished.
        interrupted: is called at once when a signal ends the command. Ray kills a stopped job after
            3 s, and leaving a cluster may take longer.

    Returns:
        How many trials could run at once.

    Raises:
        ClusterError: Ray cannot be reached or is too small, or a trial ended without its rows.
        StoreError: a node of the cluster does not see the store.
    """
    cache_space = work_orders[0].cache_space
    try:
        with cache_space.locked(), tempfile.TemporaryDirectory() as scratch, session():
            try:
                check_every_node(Store.open(work_orders[0].store), work_orders[0].store_id)
                trials = concurrent_trials(resources, say)
                errors = _run_trials(work_orders, resources, trials, scratch, say, groups_left)
            except KeyboardInterrupt:
                interrupted()
                raise
            except Exception:
                _clear_nodes(cache_space)
                raise
            _clear_nodes(cache_space)
    finally:
        cache_space.clear()
    if errors:
        raise explain(errors[0], f"{len(errors)} of {len(work_orders)} groups ended early")
    return trials


def _run_trials(
    work_orders: list[WorkOrder],
    resources: Resources,
    trials: int,
    scratch: str,
    say: Callable[[str], None],
    groups_left: Callable[[], int],
) -> list[Exception]:
    """Run each group as a trial, `trials` at once; return the errors that ended trials."""
    trainable = ray.tune.with_parameters(
        _trial, work_orders=work_orders, resources=resources, scratch=scratch
    )
    trials = min(trials, len(work_orders))
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trainable, ON_THE_HEAD),
        param_space={"group": ray.tune.grid_search(list(range(len(work_orders))))},
        tune_config=ray.tune.TuneConfig(max_concurrent_trials=trials),
        run_config=ray.tune.RunConfig(
            storage_path=scratch, name="grid", verbose=0, progress_reporter=_Silent()
        ),
    )
    with say_what_is_missing(trials, resources, say, groups_left):
        return list(tuner.fit().errors)


def _trial(
    config: dict[str, Any], work_orders: list[WorkOrder], resources: Resources, scratch: str
) -> dict[str, int]:
    """Run the group of one trial. It returns a value, or Tune would print a line about it."""
    work_order = work_orders[config["group"]]
    run_group_trial(work_order, partial(train_group, work_order, resources, scratch))
    return {"cells": len(work_order.group.cells)}


def _clear_nodes(cache_space: CacheSpace) -> None:
    """Remove decoded images from every other node."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    clear = ray.remote(CacheSpace.clear)
    tasks = [
        clear.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)
        )
        for node in nodes
    ]
    with suppress(ray.exceptions.RayError):  # the next command on the node removes the rest
        ray.get([task.remote(cache_space) for task in tasks], timeout=CLEAR_SECONDS)
