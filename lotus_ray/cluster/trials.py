"""Run cells with Ray Tune, one trial a cell, at places of Ray Train."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import ray
import ray.tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lotus_ray.cluster.capacity import concurrent_trials, narrowed
from lotus_ray.cluster.causes import explain
from lotus_ray.cluster.cell_search import CellSearch
from lotus_ray.cluster.cell_trial import CellTrial, Ticket
from lotus_ray.cluster.death_policy import MAX_RESTARTS
from lotus_ray.cluster.decode_jobs import FEW_BYTES, running_queue
from lotus_ray.cluster.dispatcher import NAME
from lotus_ray.cluster.dispatcher_actor import DispatcherActor
from lotus_ray.cluster.environment import cluster_address
from lotus_ray.cluster.messages import Ask
from lotus_ray.cluster.nodes import beside_this
from lotus_ray.cluster.places import Places
from lotus_ray.cluster.session import session
from lotus_ray.cluster.store_access import check_every_node
from lotus_ray.cluster.waiting import say_what_is_missing
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.prepared.manifest import read_manifest
from lotus_ray.job.ready import ReadyTasks, Task, most_at_once, tasks
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.spans import Filling, Span
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store

CLEAR_SECONDS = 30
FIRST_SECONDS = 60.0  # for the first place to begin before trials start
TICKET = {"memory": 128 << 20}  # bytes: the process of a trial waits, and computes nothing
RESTARTS = {"max_restarts": -1, "max_task_retries": -1}


class _Silent(ray.tune.ProgressReporter):  # type: ignore[misc]
    """Prints nothing, because the command reports progress from the store."""

    def should_report(self, trials: Any, done: bool = False) -> bool:
        return False

    def report(self, trials: Any, done: bool, *sys_info: Any) -> None:
        return None


@contextmanager
def cluster(resources: Resources) -> Iterator[Cluster]:
    """Start Ray or join a cluster. Where Ray starts here, its places start too.

    Args:
        resources: of one place.

    Raises:
        ClusterError: Ray cannot be reached, started, or is too small.
    """
    with tempfile.TemporaryDirectory() as scratch, session():
        places = Places(resources, scratch)
        count = 0
        if not cluster_address():
            count = concurrent_trials(resources, print)  # nothing is waited for here
            places.start(count)
        try:
            yield Cluster(places, count, resources, scratch)
        finally:
            places.stop()


class Cluster:
    """Ray, and the places of a grid on it."""

    def __init__(
        self,
        places: Places,
        count: int,
        resources: Resources,
        scratch: str,
    ) -> None:
        self._places = places
        self._count = count  # of places that have started
        self._resources = resources
        self._scratch = scratch

    def run(
        self,
        work_orders: list[WorkOrder],
        seconds: Mapping[str, float],
        say: Callable[[str], None],
        cells_left: Callable[[], int],
        interrupted: Callable[[], None],
    ) -> Filling:
        """Run every missing cell.

        Args:
            work_orders: groups with missing cells.
            seconds: expected, by cell id.
            say: prints a line while the grid waits.
            cells_left: returns how many cells have no row.
            interrupted: is called at once when a signal ends the command. Ray kills a stopped job
                after 3 s, and leaving a cluster may take longer.

        Returns:
            When each cell ran, and how many places there were.

        Raises:
            ClusterError: the cluster is too small, or a cell's trial ended without its row.
            StoreError: a node of the cluster does not see the store.
        """
        cache_space = work_orders[0].cache_space
        try:
            queue = running_queue() if needs_queue(work_orders) else nullcontext()
            with cache_space.locked(), queue:
                check_every_node(Store.open(work_orders[0].store), work_orders[0].store_id)
                waiting = tasks(work_orders, seconds)
                if not self._count:
                    self._resources = narrowed(self._resources, most_at_once(waiting))
                    self._count = min(concurrent_trials(self._resources, say), len(waiting))
                    self._places.start(self._count, self._resources)
                with say_what_is_missing(
                    lambda: self._places.running, self._resources, say, cells_left
                ):
                    filling, errors = self._run(work_orders, waiting, say)
                _clear_nodes(cache_space)
        except KeyboardInterrupt:
            interrupted()
            raise
        finally:
            cache_space.clear()
        if errors:
            raise explain(errors[0], f"{len(errors)} of {len(waiting)} cells ended early")
        return filling

    def _run(
        self,
        work_orders: Sequence[WorkOrder],
        waiting: Sequence[Task],
        say: Callable[[str], None],
    ) -> tuple[Filling, list[Exception]]:
        """Run each cell as a trial; return when they ran, and the errors that ended trials."""
        orders = [pickle.dumps(work_order) for work_order in work_orders]
        here = beside_this()  # without the command there is nothing to hand out
        options = {"name": NAME, "num_cpus": 0, "scheduling_strategy": here, **RESTARTS}
        dispatcher = ray.remote(DispatcherActor).options(**options).remote(orders, len(waiting))
        self._places.follow(dispatcher, say)
        search = CellSearch(
            ReadyTasks(waiting),
            {task.cell_id: _config(task, work_orders[task.group]) for task in waiting},
            lambda: max(self._places.running, 1),
            lambda cells: ray.get(dispatcher.dropped.remote(cells)),
        )
        tickets = {task.cell_id: _ticket(task, work_orders[task.group]) for task in waiting}
        # Processes of trials take seconds to start. Places may begin before them.
        for task in search.ahead(self._places.running):
            ray.get(dispatcher.run.remote(tickets[task.cell_id].ask))
        self._wait_for_place(dispatcher, say)
        trainable = ray.tune.with_parameters(CellTrial, tickets=tickets, dispatcher=dispatcher)
        tuner = ray.tune.Tuner(
            ray.tune.with_resources(trainable, TICKET),
            tune_config=ray.tune.TuneConfig(
                search_alg=search,
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=_trial_name,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=ray.tune.RunConfig(
                storage_path=self._scratch,
                name="grid",
                verbose=0,
                progress_reporter=_Silent(),
                failure_config=ray.tune.FailureConfig(max_failures=MAX_RESTARTS),
            ),
        )
        results = tuner.fit()
        ray.get(dispatcher.close.remote())
        self._places.end()
        ends = [result.metrics or {} for result in results]
        spans = [_span(end) for end in ends if "begin" in end]
        errors = [end["error"] for end in ends if "error" in end]
        return Filling(self._places.most, spans), [*errors, *results.errors]

    def _wait_for_place(self, dispatcher: Any, say: Callable[[str], None]) -> None:
        """Wait until a place has begun, at most FIRST_SECONDS: trials would slow its start."""
        say(f"starting the workers of {self._places.running} places")
        end = time.monotonic() + FIRST_SECONDS
        while self._places.running and time.monotonic() < end:
            if ray.get(dispatcher.places.remote()):
                return
            time.sleep(0.1)


def needs_queue(work_orders: Sequence[WorkOrder]) -> bool:
    """Return True if images may be decoded for several nodes, or in many tasks.

    The queue is a process more, whose start would slow down that of a small grid here. Groups of
    one data set may want images of different sizes: the largest counts.
    """
    if cluster_address():
        return True
    rows: dict[Path, int] = {}
    for folder in {folder for each in work_orders for folder in each.group.manifests}:
        rows[folder] = sum(shard.rows for shard in read_manifest(folder).shards)
    return any(
        each.group.transform.image_bytes * sum(map(rows.__getitem__, each.group.manifests))
        > FEW_BYTES
        for each in work_orders
    )


def _config(task: Task, work_order: WorkOrder) -> dict[str, Any]:
    """Return the configuration of a trial: what Tune's callbacks and tables show."""
    group = work_order.group
    return {
        "cell": task.cell_id,
        "method": task.label,
        "dataset": group.benchmark,
        "model": group.model_label,
        "setting": group.setting,
        "seed": group.seed,
    }


def _trial_name(trial: Any) -> str:
    """Return the name of a trial, for the dashboard: its method, data set and seed."""
    of = trial.config
    return f"{of['method']} {of['dataset']} seed {of['seed']} {of['cell'][:8]}"


def _ticket(task: Task, work_order: WorkOrder) -> Ticket:
    original = work_order.group.original.cell_id
    return Ticket(
        Ask(task.cell_id, task.group, task.seconds, task.after),
        task.label,
        work_order.store,
        work_order.row_versions[task.cell_id],
        original,
        work_order.row_versions.get(original, 0),
    )


def _span(metrics: Mapping[str, Any]) -> Span:
    return Span(**{name: metrics[name] for name in ("cell_id", "place", "begin", "end", "waited")})


def _clear_nodes(cache_space: CacheSpace) -> None:
    """Remove decoded images from every other node."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return  # the caller clears this one
    clear = ray.remote(CacheSpace.clear)
    tasks = [
        clear.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)
        )
        for node in nodes
    ]
    with suppress(ray.exceptions.RayError):  # the next command on the node removes the rest
        ray.get([task.remote(cache_space) for task in tasks], timeout=CLEAR_SECONDS)
