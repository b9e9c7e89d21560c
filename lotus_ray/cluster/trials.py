"""Ray Tune fans out groups; each group is one Ray Train run that works through its cells."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import ray
import ray.train
import ray.tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lotus_ray.base.errors import ClusterError, LotusRayError, StoreError
from lotus_ray.cluster.nodes import told_what_is_missing
from lotus_ray.cluster.session import concurrent_trials, session
from lotus_ray.cluster.store_access import check_every_node
from lotus_ray.cluster.worker import group_loop
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.job.cells import Cell
from lotus_ray.job.schema import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.trial.checkpoints import StoredCheckpoints
from lotus_ray.trial.row import about, failure, status_of

RESTARTS_AFTER_A_DEATH = 2
# Ray's list of nodes is up to 20 s old when it says how many workers fit, and it waits for a group
# that does not fit before it looks again. Measured on two cores with a node killed of two, until
# the worker that is left ran: 36 and 51 s with 10 s of waiting, 76 s with the default of 60 s; 16 s
# of each are the death and the start of a group.
PLACE_SECONDS = 10
GROW_SECONDS = 60.0  # between two looks for more: to grow, workers start anew from their checkpoint
CLEAR_SECONDS = 30
SLOWEST_NODE_SECONDS = 6 * 3600  # workers wait so long for one whose node decodes
ON_THE_HEAD = {"node:__internal_head__": 0.001}  # a group's driver computes nothing


class _Silent(ray.tune.ProgressReporter):  # type: ignore[misc]
    """Tune's own progress says nothing: the command reports from the store."""

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
    """Run groups on Ray until every cell of them has a row.

    Args:
        work orders: groups with missing cells.
        resources: what one group needs.
        say: takes a line about what is waited for.
        lanes_left: returns how many groups are not finished.
        interrupted: is called at once when a signal ends the command. Ray kills a job 3 s after it
            was told to stop, and leaving a cluster may take longer.

    Returns:
        How many groups could run at once.

    Raises:
        ClusterError: Ray cannot be reached, is too small, or a group ended without its rows.
        StoreError: a node of the cluster does not see the store.
    """
    cache_space = work_orders[0].cache_space
    try:
        with cache_space.locked(), tempfile.TemporaryDirectory() as scratch, session():
            try:
                check_every_node(Store.open(work_orders[0].store), work_orders[0].mark)
                groups = concurrent_trials(resources, say)
                errors = _run_trials(work_orders, resources, groups, scratch, say, groups_left)
            except KeyboardInterrupt:
                interrupted()
                raise
            except Exception:
                _clear(cache_space)
                raise
            _clear(cache_space)
    finally:
        cache_space.clear()
    if errors:
        raise _explained(errors[0], f"{len(errors)} of {len(work_orders)} groups ended early")
    return groups


def _run_trials(
    work_orders: list[WorkOrder],
    resources: Resources,
    groups: int,
    scratch: str,
    say: Callable[[str], None],
    groups_left: Callable[[], int],
) -> list[Exception]:
    """Run each group as a trial, so many at once; return what ended trials early."""
    trainable = ray.tune.with_parameters(
        _run_group_trial, work_orders=work_orders, resources=resources, scratch=scratch
    )
    groups = min(groups, len(work_orders))
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trainable, ON_THE_HEAD),
        param_space={"group": ray.tune.grid_search(list(range(len(work_orders))))},
        tune_config=ray.tune.TuneConfig(max_concurrent_trials=groups),
        run_config=ray.tune.RunConfig(
            storage_path=scratch, name="grid", verbose=0, progress_reporter=_Silent()
        ),
    )
    with told_what_is_missing(groups, resources, say, groups_left):
        return list(tuner.fit().errors)


def _run_group_trial(
    config: dict[str, Any], work_orders: list[WorkOrder], resources: Resources, scratch: str
) -> dict[str, int]:
    """Run one group; where it dies at a cell too often, make a failed row of that cell and go on.

    Deaths are counted by cell, and anew when it has come further: a group on machines that come
    and go may lose its workers often. A death before any cell began is no cell's fault.
    What it returns is for Tune, which prints a line about a trial that reports nothing.

    Raises:
        StoreError: the store refuses, or does not answer.
        ClusterError: its workers died too often before they began a cell.
    """
    work_order = work_orders[config["group"]]
    store = Store.open(work_order.store)
    group = work_order.group
    before = {cell.cell_id: store.attempts(cell.cell_id) for cell in group.cells}
    checkpoints: dict[str, str | None] = {}
    idle = 0  # deaths in a row that left no trace of a cell
    while missing := [cell for cell in group.cells if not work_order.is_settled(cell, store)]:
        begun = {cell.cell_id: store.attempts(cell.cell_id) for cell in missing}
        try:
            _fit(work_order, resources, scratch)
        except TrainingFailedError as error:
            _raise_store_error(error)
            left = [cell for cell in missing if not work_order.is_settled(cell, store)]
            running = [c for c in left if store.attempts(c.cell_id) > begun[c.cell_id]]
            idle = idle + 1 if left == missing and not running else 0
            if idle > RESTARTS_AFTER_A_DEATH:
                died = f"the workers of {group.name} died before they began a cell, {idle} times"
                raise _explained(_first_death(error), died) from error
            if not running:
                continue
            cell = running[0]
            name = StoredCheckpoints.place(cell.cell_id, work_order.row_versions[cell.cell_id])
            begun_since = store.attempts(cell.cell_id) - before[cell.cell_id]
            tries = begun_since - _grown(store, cell, begun_since)
            if (checkpoint := store.etag(name)) != checkpoints.get(cell.cell_id):
                checkpoints[cell.cell_id] = checkpoint  # it came further than before
                before[cell.cell_id] += begun_since
            elif tries > RESTARTS_AFTER_A_DEATH:
                _fail(work_order, store, cell, error)
    return {"cells": len(group.cells)}


def _grown(store: Store, cell: Cell, tries: int) -> int:
    """Return how many of the last tries at a cell began because there were more workers.

    Ray ends a healthy group to start a larger one. No group grows without end, so a cell that
    kills its workers is given up nevertheless.
    """
    had = store.resources_by_attempt(cell.cell_id)[-tries:] if tries else []
    return sum(later["workers"] > earlier["workers"] for earlier, later in pairwise(had))


def _explained(error: Exception, what: str) -> LotusRayError:
    """Return our own error where a group ended by one, or say what ended it."""
    causes = list(_causes(error))
    ours = [cause for cause in causes if isinstance(cause, LotusRayError)]
    if ours:
        return ours[-1]
    last = str(causes[-1]).strip().splitlines()[-1:]
    return ClusterError(
        f"{what}: {type(causes[-1]).__name__}: {' '.join(last)}",
        next_command="run the same command again: committed cells are kept",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and what Ray or Python says caused it, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = getattr(error, "cause", None) or error.__cause__


def _clear(cache_space: CacheSpace) -> None:
    """Remove decoded images from every other node."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    clear = ray.remote(CacheSpace.clear)
    tasks = [
        clear.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)
        )
        for node in nodes
    ]
    with suppress(ray.exceptions.RayError):  # what stays, the next command on the node removes
        ray.get([task.remote(cache_space) for task in tasks], timeout=CLEAR_SECONDS)


def _fit(work_order: WorkOrder, resources: Resources, scratch: str) -> None:
    """Run a group on a group of workers.

    Raises:
        LotusRayError: something is wrong with its images.
        TrainingFailedError: its workers died too often.
    """
    if resources.least_workers < resources.workers:
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(PLACE_SECONDS))
    result = TorchTrainer(
        group_loop,
        train_loop_config={
            "work_order": work_order,
            "threads": resources.cpus_per_worker,
            "gpus": resources.gpus_per_worker,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=_num_workers(resources),
            elastic_resize_monitor_interval_s=max(GROW_SECONDS, resources.checkpoint_seconds),
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=_per_worker(resources),
        ),
        torch_config=TorchConfig(timeout_s=SLOWEST_NODE_SECONDS),
        run_config=ray.train.RunConfig(
            storage_path=scratch,
            name=uuid.uuid4().hex,
            failure_config=ray.train.FailureConfig(max_failures=RESTARTS_AFTER_A_DEATH),
        ),
    ).fit()
    if isinstance(result.return_value, LotusRayError):
        raise result.return_value


def _num_workers(resources: Resources) -> int | tuple[int, int]:
    """Return how many workers Ray Train starts, or from how few to how many."""
    least, most = resources.least_workers, resources.workers
    return most if least == most else (least, most)


def _per_worker(resources: Resources) -> dict[str, float]:
    need = {"CPU": float(resources.cpus_per_worker), "GPU": resources.gpus_per_worker}
    return {name: amount for name, amount in need.items() if amount}


def _raise_store_error(error: TrainingFailedError) -> None:
    """Raise what the store said: that is no fault of a cell."""
    for ended in (error, *getattr(error, "worker_failures", {}).values()):
        for cause in _causes(ended):
            if isinstance(cause, StoreError):
                raise cause


def _first_death(error: TrainingFailedError) -> Exception:
    """Return what ended the worker of the lowest rank, or the group where no worker says."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    return failures[min(failures)] if failures else error


def _fail(work_order: WorkOrder, store: Store, cell: Cell, error: TrainingFailedError) -> None:
    cause = _first_death(error)
    attempt = store.attempt(cell.cell_id, work_order.row_versions[cell.cell_id])
    store.commit(attempt, {**about(work_order.group, cell), **failure(status_of(cause), cause)}, {})
    store.remove_all(StoredCheckpoints.folder(cell.cell_id))
