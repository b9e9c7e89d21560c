"""What a place says to the dispatcher, and asks it."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.util import get_current_placement_group

from lotus_ray.cluster.causes import sendable
from lotus_ray.cluster.dispatcher import BEAT_SECONDS, NAME
from lotus_ray.cluster.gauges import Gauges
from lotus_ray.cluster.messages import CLOSE_GROUPS, Claim, Ended
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.trial.original import OriginalPending
from lotus_ray.unlearning.position import Position

POLL_SECONDS = 0.2
RESTART_SECONDS = 120.0  # for another place to run an original again whose workers died


class PlaceLine:
    """The first worker's line to the dispatcher."""

    def __init__(self, place: str, workers: int) -> None:
        """Ask nothing yet.

        Args:
            place: its name.
            workers: how many it has.
        """
        self._place = place
        self._workers = workers
        self._start = uuid.uuid4().hex
        self._number = 0
        self._claim: Claim | None = None
        self._committing: Claim | None = None
        self.position = Position()  # of the cell that runs
        self.tags: dict[str, str] = {}  # of its gauges
        self._lock = threading.Lock()  # a late beat would bring back a cell that has ended
        self._dispatcher: Any = None

    def claim(self, loaded: list[int], stays: bool = False) -> Claim | None:
        """Return the next cell, or CLOSE_GROUPS; None if there will be none.

        Args:
            loaded: groups that are loaded.
            stays: prefer their cells, however short these are.
        """
        if self._dispatcher is None:
            self._dispatcher = _dispatcher()
            threading.Thread(target=self._beat, daemon=True).start()
        self._number += 1
        ray.get(self._dispatcher.keep_group.remote(self._place, get_current_placement_group()))
        arguments = (self._place, self._start, self._number, loaded, stays)
        claim: Claim | None = None
        while claim is None:
            claim = ray.get(self._dispatcher.claim.remote(*arguments))
            if claim is None and ray.get(self._dispatcher.is_over.remote()):
                break
        self._claim = None if claim == CLOSE_GROUPS else claim
        return claim

    def order(self, group: int) -> bytes:
        """Return the pickled work order of a group. Any worker may ask."""
        order: bytes = ray.get(_dispatcher().order.remote(group))
        return order

    def trained(self) -> None:
        """Say that the cell has run, and is committed now."""
        with self._lock:
            ray.get(self._dispatcher.trained.remote(self._place))
            self._committing, self._claim = self._claim, None

    def ended(self, claim: Claim, ended: Ended) -> None:
        """Say how a cell ended. The thread that commits it may."""
        with self._lock:
            if claim == self._claim:
                self._claim = None
            else:
                self._committing = None
            if ended.error is not None:
                ended = replace(ended, error=sendable(ended.error))
            ray.get(self._dispatcher.ended.remote(self._place, claim.cell_id, ended))

    def refused(self, claim: Claim, error: Exception) -> Claim | None:
        """Give a cell back that this place cannot begin.

        Args:
            claim: what it had to do.
            error: why it cannot.

        Returns:
            Another group to try, without a cell; None: there is none.
        """
        with self._lock:
            self._claim = ray.get(
                self._dispatcher.refused.remote(self._place, claim, sendable(error))
            )
            return self._claim

    def fell(self, cause: Exception) -> None:
        """Say why this worker is about to die. Any worker may."""
        ray.get(_dispatcher().fell.remote(self._place, sendable(cause)))

    def say(self, text: str) -> None:
        """Have the command show a line. Any worker may."""
        ray.get(_dispatcher().note.remote(f"place {self._place}: {text}"))

    def wait_for_original(self, work_order: WorkOrder) -> None:
        """Wait until the original of a group has a row.

        Raises:
            OriginalPending: no place has run it for RESTART_SECONDS: this one may have to. Or an
                error has ended it, or the command is gone, which is no fault of the cell.
        """
        cell, store = work_order.group.original, Store.open(work_order.store)
        ran = time.monotonic()
        while not work_order.is_settled(cell, store):
            if self._ask("runs", cell.cell_id):
                ran = time.monotonic()
            elif time.monotonic() - ran > RESTART_SECONDS or self._ask("has_failed", cell.cell_id):
                raise OriginalPending
            time.sleep(POLL_SECONDS)

    def _ask(self, question: str, cell_id: str) -> bool:
        """Ask the dispatcher about a cell."""
        try:
            answer: bool = ray.get(getattr(self._dispatcher, question).remote(cell_id))
        except ray.exceptions.RayError as error:
            raise OriginalPending from error
        return answer

    def _beat(self) -> None:
        gauges = Gauges(self._place)
        while True:
            with self._lock:
                here = (self._place, self._start, self._number)
                if claim := self._claim:
                    phase = self.position.phase
                    ray.get(self._dispatcher.beat.remote(*here, claim, phase))
                    with suppress(Exception):  # what is shown never ends the beats
                        gauges.show(self.position, self._workers, **self.tags)
                if committing := self._committing:
                    ray.get(self._dispatcher.beat.remote(*here, committing, None))
            time.sleep(BEAT_SECONDS)


def _dispatcher() -> Any:
    """Return the dispatcher, which starts after the grid is planned."""
    while True:
        try:
            return ray.get_actor(NAME)
        except ValueError:
            time.sleep(POLL_SECONDS / 2)
