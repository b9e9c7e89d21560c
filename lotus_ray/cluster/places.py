"""Places: runs of Ray Train that live while there is work, and run one cell after another."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
import ray.train
from ray.actor import ActorHandle
from ray.util import remove_placement_group

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.free_memory import available_memory
from lotus_ray.cluster.capacity import most_places
from lotus_ray.cluster.causes import explain, first_failure, sendable
from lotus_ray.cluster.death_policy import MAX_RESTARTS
from lotus_ray.cluster.dispatcher import NAME
from lotus_ray.cluster.environment import cluster_address
from lotus_ray.cluster.nodes import beside_this
from lotus_ray.job.schema.resources import Resources

_log = logging.getLogger(__name__)
LOOK_SECONDS = 2.0  # between two looks at how many places can be used
END_SECONDS = 120.0  # for places that run here to end: workers that died start again first
STOP_SECONDS = 0.5  # between two looks at whether a place of a cluster, or this command, has ended
CANCEL_SECONDS = 5.0  # for a place of a cluster to end, with what Ray Train keeps beside it
LEAVING_SECONDS = 600.0  # most that a node stays after it said that it goes
LEAVE_SECONDS = 30.0  # for threads to leave Ray: one that begins a place may import torch first
PLACE_BYTES = 800 << 20  # of the process that keeps a place, and of Ray Train's beside it
BESIDE_SHARE = 0.25  # of the memory that is free on the command's node, for such processes


class Places:
    """Starts places as resources allow. The first ones start before the grid is planned."""

    def __init__(self, resources: Resources, scratch: str) -> None:
        """Start nothing yet.

        Args:
            resources: of each place.
            scratch: folder for files of Ray Train.
        """
        self._resources = resources
        self._scratch = scratch
        self._threads: list[threading.Thread] = []
        self._looking: threading.Thread | None = None
        self._errors: list[tuple[str, LotusRayError]] = []  # of places that have ended, by name
        self._stop = threading.Event()
        self._cancel = threading.Event()
        self._dispatcher: Any = None
        self._say: Callable[[str], None] = print
        self._beside = int(BESIDE_SHARE * available_memory() / PLACE_BYTES)
        self.most = 0  # places at once

    @property
    def running(self) -> int:
        """How many places have started and not ended."""
        return sum(thread.is_alive() for thread in self._threads)

    def start(self, count: int, resources: Resources | None = None) -> None:
        """Start places until there are `count`, unless they are stopped.

        Args:
            count: of places.
            resources: of each from now on; None: as before.
        """
        self._resources = resources or self._resources
        for _ in range(0 if self._stop.is_set() else count - self.running):
            arguments = (len(self._threads), self.running < self._beside)
            thread = threading.Thread(target=self._run, args=arguments, daemon=True)
            self._threads.append(thread)
            thread.start()
        self.most = max(self.most, self.running)

    def follow(self, dispatcher: Any, say: Callable[[str], None]) -> None:
        """Start more places while there are cells for them, until `end` or `stop`.

        Args:
            dispatcher: its actor.
            say: shows a line of a place.
        """
        self._dispatcher, self._say = dispatcher, say
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._looking.start()

    def stop(self) -> None:
        """Start no more places, and ignore what happens to those that run.

        No thread may wait for Ray when Ray is shut down: Ray would end this process at once. So
        what runs here is killed until each thread has seen it. Places of a cluster are cancelled:
        they would end with this command's job, but not a detached actor of Ray Train for each,
        which holds 200 MB of the head until the cluster ends.
        """
        self._stop.set()
        self._cancel.set()
        end = time.monotonic() + LEAVE_SECONDS
        while self._alive() and time.monotonic() < end:
            if not cluster_address():
                kill_actors()
            self._join(STOP_SECONDS)
        if left := self._alive():
            _log.warning("%d threads still wait for Ray", len(left))

    def end(self) -> None:
        """Wait a little for the places to end. No cell runs any more."""
        self._stop.set()
        self._join(CANCEL_SECONDS if cluster_address() else END_SECONDS)  # some wait for nodes

    def _alive(self) -> list[threading.Thread]:
        threads = (self._looking, *self._threads)  # the first may start others before it ends
        return [thread for thread in threads if thread is not None and thread.is_alive()]

    def _join(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for thread in self._alive():
            thread.join(max(end - time.monotonic(), 0))

    def _look(self) -> None:
        """Follow the cluster: start places for new nodes, and give up when all places failed."""
        said = 0  # of the errors
        while not self._stop.wait(LOOK_SECONDS):
            try:
                for note in self._ask("notes"):
                    self._say(note)
                running = self.running  # before the errors are read: a place fails, then ends
                errors = self._errors[:]
                for place, error in errors[said:]:
                    self._say(f"place {place} has ended: {error.what}")
                said = len(errors)
                if errors and not running:
                    self._ask("close", explain(errors[0][1], "no place is left"))
                    return
                if said <= MAX_RESTARTS:
                    most = most_places(self._resources, self._ask("places"))
                    self.start(min(self._ask("left"), most))
            except _Stopped:
                return
            except Exception as error:  # the next look may go better
                _log.debug("the places cannot be looked at: %s", error)

    def _ask(self, question: str, *about: Any) -> Any:
        """Ask the dispatcher. No longer than the command runs: the dispatcher may start again."""
        answer = getattr(self._dispatcher, question).remote(*about)
        while not ray.wait([answer], timeout=STOP_SECONDS)[0]:
            if self._stop.is_set():
                raise _Stopped
        return ray.get(answer)

    def _run(self, number: int, is_beside: bool) -> None:
        """Keep a place in a thread, and the error that ends it.

        On a cluster a process keeps it, and Ray Train's controller stands with that. On another
        node than the workers it is a second node whose loss ends them, so the first places, which
        fit, are kept on the node of the command: the grid does not outlive that one anyway.

        Args:
            number: of the place, from 0.
            is_beside: whether its process stands beside the command.
        """
        place = str(number + 1)
        work = (place, self._resources, self._scratch)
        try:
            if not cluster_address():
                keep_place(*work, self._stop.is_set)  # here, which spares a process
                return
            options = {
                "name": f"place {place}",
                "num_cpus": 0,
                "scheduling_strategy": beside_this() if is_beside else "SPREAD",
                "max_retries": -1,
            }
            kept = ray.remote(keep_place).options(**options).remote(*work)
            while not ray.wait([kept], timeout=STOP_SECONDS)[0]:
                if self._cancel.is_set():
                    ray.cancel(kept)
                    ray.wait([kept], timeout=CANCEL_SECONDS)
                    return
            ray.get(kept)
        except Exception as error:
            if not self._stop.is_set():  # else it was ended
                ours = explain(error, f"place {place} ended early")
                self._errors.append((place, ours))


class _Stopped(Exception):
    """The command has stopped the places."""


def kill_actors() -> None:
    """Kill every actor that this process has a handle of, so that no thread waits for it.

    A thread in `fit` of Ray Train waits for its controller, and keeps the only handle to itself.
    """
    for thing in gc.get_objects():
        if issubclass(type(thing), ActorHandle):
            with suppress(Exception):  # it is dead, or not ready
                ray.kill(thing)


def _never() -> bool:
    return False


def keep_place(
    place: str, resources: Resources, scratch: str, is_stopped: Callable[[], bool] = _never
) -> None:
    """Keep the workers of a place running until there is no cell for them.

    Args:
        place: its name.
        resources: of its workers.
        scratch: folder for files of Ray Train.
        is_stopped: returns whether the command has ended.

    Raises:
        LotusRayError: the place can run no cell, or its workers died too often before they claimed
            one.
    """
    from lotus_ray.cluster.train_function import run_on_workers

    def work() -> LotusRayError | None:
        from lotus_ray.cluster.worker import work_at_place  # with torch, on the worker alone

        return work_at_place(place, resources)

    last, deaths = "", 0  # the last start that claimed; deaths since then
    going = 0.0  # seconds since this node said that it goes
    while not is_stopped():
        try:
            wrong = run_on_workers(work, resources, scratch, MAX_RESTARTS, f"place-{place}")
        except ray.exceptions.ActorUnschedulableError:
            # The node of this process is about to go, and takes no controller any more. Ray runs
            # this function again on another node.
            if going > LEAVING_SECONDS:
                raise
            going += LOOK_SECONDS
            time.sleep(LOOK_SECONDS)
        except (ray.train.TrainingFailedError, ray.exceptions.RayActorError) as error:
            if is_stopped():
                return
            cause = first_failure(error)  # of a worker, or the controller itself is gone
            is_gone = isinstance(error, ray.exceptions.RayActorError)
            claimed = _lost(place, cause, is_gone)
            if claimed != last:
                last, deaths = claimed, 0
                continue
            deaths += 1 if is_gone else MAX_RESTARTS + 1
            if deaths > MAX_RESTARTS:
                died = f"the workers of place {place} died before they claimed a cell"
                raise explain(cause, f"{died}, {deaths} times") from error
        else:
            _tell_gone(place)
            if wrong is not None:
                raise wrong
            return


def _tell_gone(place: str) -> None:
    """Tell the dispatcher that a place has ended: what it had loaded is free."""
    with suppress(ValueError, ray.exceptions.RayError):  # the grid has ended, too
        ray.get(ray.get_actor(NAME).gone.remote(place))


def _lost(place: str, cause: Exception, is_gone: bool) -> str:
    """Tell the dispatcher that a place has no workers; return which start of them claimed last.

    If Ray Train's controller is gone, nobody else frees what the workers held: its own cleaner asks
    the dashboard, and Ray here runs without one.
    """
    try:
        dispatcher = ray.get_actor(NAME)
    except ValueError:
        return ""  # the grid is not planned yet
    if is_gone and (group := ray.get(dispatcher.take_group.remote(place))):
        with suppress(Exception):  # it is gone already
            remove_placement_group(group)
    claimed: str = ray.get(dispatcher.lost.remote(place, sendable(cause)))
    return claimed
