"""The work of each worker of a place: claim a cell, run it, say how it ended, claim the next."""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from typing import Any

import ray
import ray.train
import torch
import torch.distributed

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.machine import machine_facts
from lotus_ray.base.memory import limit_gpu_memory
from lotus_ray.cluster.commits import Commits
from lotus_ray.cluster.decode import decode_to_files, node_cpus, stream_pixels
from lotus_ray.cluster.dispatcher import BEAT_SECONDS, NAME
from lotus_ray.cluster.gauges import Gauges
from lotus_ray.cluster.messages import Claim, Ended
from lotus_ray.data.pixels.decode_task import DecodeTask, announcing, decode_here
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.trial.images import Decoders
from lotus_ray.trial.original import OriginalPending
from lotus_ray.trial.run import CellRunner
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.position import Position

POLL_SECONDS = 0.2
RESTART_SECONDS = 120.0  # for another place to run an original again whose workers died
FEW_BYTES = 64 << 20  # of decoded pixels: 400 images of ImageNet, 20,000 of CIFAR


def work_at_place(workers: Workers, device: torch.device, place: str, resources: Resources) -> None:
    """Run cells on this worker until there are no more.

    Args:
        workers: the workers of the place.
        device: of this worker.
        place: its name.
        resources: of each worker.
    """
    threads, gpus = resources.cpus_per_worker, resources.gpus_per_worker
    torch.set_num_threads(threads)
    limit_gpu_memory(device, gpus)
    facts = machine_facts(device, workers.size, gpus)
    facts["versions"]["ray"] = ray.__version__
    facts["place"] = place  # for `lotus-ray status`
    line, commits = _Line(place, workers.size), Commits()
    decoders, first_error = _decoders(threads, line), partial(_first_error, workers=workers)
    # On a CPU a commit would slow down the steps of the next cell, and their seconds are ranked.
    before_training = commits.wait if device.type == "cpu" else _at_once
    runner = CellRunner(
        workers,
        device,
        facts,
        decoders,
        place,
        first_error,
        line.wait_for_original,
        commits.take,
        before_training,
    )
    line.position = runner.position
    loaded: list[int] = []
    with ExitStack() as locks, commits:
        while claim := _from_first(line.claim(loaded) if not workers.rank else None, workers):
            work_order: WorkOrder = pickle.loads(claim.order)
            line.tags = _tags(work_order, claim)
            lock = None if loaded else work_order.cache_space.locked()
            if error := _locked(lock, locks, workers):
                ended = Ended(error=error)
            else:
                loaded = [claim.group, *(group for group in loaded if group != claim.group)][:2]
                ended = _run(runner, work_order, claim, workers, line)
            if not workers.rank:
                _end(ended, claim, commits, line)
            runner.position.begin(Counter())  # the next cell has not begun


def _run(
    runner: CellRunner, work_order: WorkOrder, claim: Claim, workers: Workers, line: _Line
) -> Ended:
    """Run a cell. Raise what the other workers do not see: then Ray starts all of them again."""
    try:
        if error := runner.open(work_order):  # the same on every worker
            return Ended(error=error)
        return Ended(runner.run(work_order, work_order.cell(claim.cell_id)))
    except (LotusRayError, OriginalPending) as error:
        if workers.size > 1:
            line.fell(error)
            raise
        is_pending = isinstance(error, OriginalPending)
        return Ended(error=None if is_pending else error, died=is_pending)
    except Exception as error:
        line.fell(error)
        raise


def _locked(
    lock: AbstractContextManager[object] | None, locks: ExitStack, workers: Workers
) -> LotusRayError | None:
    """Hold a lock of this node. Return the error of the first worker that cannot, on all."""
    error = None
    try:
        if lock is not None:
            locks.enter_context(lock)
    except LotusRayError as caught:
        error = caught
    return _first_error(error, workers)


def _tags(work_order: WorkOrder, claim: Claim) -> dict[str, str]:
    """Return the tags of a cell's gauges."""
    label = work_order.cell(claim.cell_id).label
    return {"cell": claim.cell_id, "method": label, "group": work_order.group.name}


def _end(ended: Ended, claim: Claim, commits: Commits, line: _Line) -> None:
    """Say how a cell ended: now, or when its row is committed."""

    def committed(error: Exception | None) -> None:
        if error is not None and not isinstance(error, LotusRayError):
            line.fell(error)
            raise error
        line.ended(claim, ended if error is None else Ended(error=error))

    if commits.is_due:
        line.trained()
        commits.start(committed)
    else:
        line.ended(claim, ended)


def _at_once() -> None:
    """Do not wait."""


class _Line:
    """The first worker's line to the dispatcher."""

    def __init__(self, place: str, workers: int) -> None:
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

    def claim(self, loaded: list[int]) -> Claim | None:
        """Return the next cell; None if there will be none."""
        if self._dispatcher is None:
            self._dispatcher = _dispatcher()
            threading.Thread(target=self._beat, daemon=True).start()
        self._number += 1
        arguments = (self._place, self._start, self._number, loaded)
        while self._claim is None:
            self._claim = ray.get(self._dispatcher.claim.remote(*arguments))
            if self._claim is None and ray.get(self._dispatcher.is_over.remote()):
                break
        return self._claim

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
            ray.get(self._dispatcher.ended.remote(self._place, claim.cell_id, ended))

    def fell(self, cause: Exception) -> None:
        """Say why this worker is about to die. Any worker may."""
        ray.get(_dispatcher().fell.remote(self._place, cause))

    def say(self, text: str) -> None:
        """Have the command show a line. Any worker may."""
        ray.get(_dispatcher().note.remote(f"place {self._place}: {text}"))

    def wait_for_original(self, work_order: WorkOrder) -> None:
        """Wait until the original of a group has a row.

        Raises:
            OriginalPending: no place has run it for RESTART_SECONDS: this one may have to.
        """
        cell, store = work_order.group.original, Store.open(work_order.store)
        ran = time.monotonic()
        while not work_order.is_settled(cell, store):
            if ray.get(self._dispatcher.runs.remote(cell.cell_id)):
                ran = time.monotonic()
            elif time.monotonic() - ran > RESTART_SECONDS:
                raise OriginalPending
            time.sleep(POLL_SECONDS)

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


def _decoders(threads: int, line: _Line) -> Decoders:
    cpus = node_cpus()
    beside = ray.train.get_context().get_local_world_size()
    spare = max((cpus - beside * threads) // beside, 1)  # CPUs that no worker uses, per worker
    return Decoders(
        announcing(partial(_decode, cpus=cpus, threads=threads), line.say),
        partial(stream_pixels, cpus=spare),
    )


def _decode(tasks: Sequence[DecodeTask], cpus: int, threads: int) -> Iterable[int]:
    """Decode images into files: few of them here, because processes take seconds to start."""
    pixels = sum(len(task.row_group) * task.transform.image_bytes for task in tasks)
    if pixels <= FEW_BYTES:
        return decode_here(tasks, threads)
    return decode_to_files(tasks, cpus)


def _from_first(claim: Claim | None, workers: Workers) -> Claim | None:
    """Return the first worker's claim on every worker."""
    claims = [claim]
    if workers.size > 1:
        torch.distributed.broadcast_object_list(claims)
    return claims[0]


def _first_error(error: LotusRayError | None, workers: Workers) -> LotusRayError | None:
    """Return the error of the first worker that has one, on all of them."""
    errors: list[LotusRayError | None] = [error] * workers.size
    if workers.size > 1:
        torch.distributed.all_gather_object(errors, error)
    return next((each for each in errors if each is not None), None)
