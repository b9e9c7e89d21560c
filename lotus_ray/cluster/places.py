"""Places: runs of Ray Train that live while there is work, and run one cell after another."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import ray.train

from lotus_ray.base.errors import LotusRayError
from lotus_ray.cluster.capacity import most_places
from lotus_ray.cluster.causes import explain, first_failure
from lotus_ray.cluster.death_policy import MAX_RESTARTS
from lotus_ray.cluster.dispatcher import NAME
from lotus_ray.cluster.environment import cluster_address
from lotus_ray.job.schema.resources import Resources

LOOK_SECONDS = 2.0  # between two looks at how many places can be used
END_SECONDS = 120.0  # for places that run here to end: workers that died start again first
STOP_SECONDS = 0.5  # between two looks at whether a place of a cluster has ended


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
        self._errors: list[LotusRayError] = []
        self._stop = threading.Event()
        self._dispatcher: Any = None
        self._say: Callable[[str], None] = print
        self.most = 0  # places at once

    @property
    def running(self) -> int:
        """How many places have started and not ended."""
        return sum(thread.is_alive() for thread in self._threads)

    def start(self, count: int) -> None:
        """Start places until there are `count`."""
        for _ in range(count - self.running):
            thread = threading.Thread(target=self._run, args=(len(self._threads),), daemon=True)
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

        Places of a cluster are left: they end with this command's job. No thread may wait for Ray
        when Ray is shut down: Ray would end this process at once.
        """
        self._stop.set()
        self._join(4 * STOP_SECONDS if cluster_address() else 0.0)

    def end(self) -> None:
        """Wait a little for the places that run here to end. No cell runs any more."""
        self._stop.set()
        self._join(END_SECONDS)

    def _join(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for thread in (*self._threads, self._looking):
            if thread is not None:
                thread.join(max(end - time.monotonic(), 0))

    def _look(self) -> None:
        """Follow the cluster: start places for new nodes, and give up when all places failed."""
        said = 0  # of the errors
        while not self._stop.wait(LOOK_SECONDS):
            try:
                for note in ray.get(self._dispatcher.notes.remote()):
                    self._say(note)
                if self._errors and not self.running:
                    error = explain(self._errors[0], "no place is left")
                    ray.get(self._dispatcher.close.remote(error))
                    return
                for error in self._errors[said:]:
                    self._say(f"a place has ended: {error.what}")
                said = len(self._errors)
                if said <= MAX_RESTARTS:
                    started = ray.get(self._dispatcher.places.remote())
                    most = most_places(self._resources, started)
                    self.start(min(ray.get(self._dispatcher.left.remote()), most))
            except (ray.exceptions.RayError, LotusRayError) as error:
                logging.getLogger(__name__).debug("the places cannot be looked at: %s", error)

    def _run(self, number: int) -> None:
        work = (str(number + 1), self._resources, self._scratch)
        try:
            if cluster_address():
                options = {
                    "name": f"place {number + 1}",
                    "num_cpus": 0,
                    "scheduling_strategy": "SPREAD",
                    "max_retries": -1,
                }
                place = ray.remote(keep_place).options(**options).remote(*work)
                while not self._stop.is_set():
                    if ray.wait([place], timeout=STOP_SECONDS)[0]:
                        ray.get(place)
                        return
            else:
                keep_place(*work)  # here, which spares a process
        except LotusRayError as error:
            self._errors.append(error)
        except Exception as error:
            if not self._stop.is_set():  # else Ray has been shut down under it
                self._errors.append(explain(error, f"place {number + 1} ended early"))


def keep_place(place: str, resources: Resources, scratch: str) -> None:
    """Keep the workers of a place running until there is no cell for them.

    Args:
        place: its name.
        resources: of its workers.
        scratch: folder for files of Ray Train.

    Raises:
        LotusRayError: the workers died too often before they claimed a cell.
    """
    from lotus_ray.cluster.train_function import run_on_workers
    from lotus_ray.cluster.worker import work_at_place

    work = partial(work_at_place, place=place, resources=resources)
    before = 0
    while True:
        try:
            return run_on_workers(work, resources, scratch, MAX_RESTARTS, f"place-{place}")
        except (ray.train.TrainingFailedError, ray.exceptions.RayActorError) as error:
            cause = first_failure(error)  # of a worker, or the controller itself is gone
            claims = _lost(place, cause)
            if claims == before:
                died = f"the workers of place {place} died before they claimed a cell"
                raise explain(cause, f"{died}, {MAX_RESTARTS + 1} times") from error
            before = claims


def _lost(place: str, cause: Exception) -> int:
    """Tell the dispatcher that a place has no workers; return how often it claimed a cell."""
    try:
        dispatcher = ray.get_actor(NAME)
    except ValueError:
        return 0  # the grid is not planned yet
    claims: int = ray.get(dispatcher.lost.remote(place, cause))
    return claims
