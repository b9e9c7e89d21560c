"""The work of each worker of a place: claim a cell, run it, say how it ended, claim the next."""

from __future__ import annotations

import pickle
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import ray
import ray.train
import torch
import torch.distributed

from lotus_ray.base.errors import LotusRayError
from lotus_ray.base.machine import machine_facts
from lotus_ray.base.memory import limit_gpu_memory
from lotus_ray.cluster.decode import decode_to_files, node_cpus, stream_pixels
from lotus_ray.cluster.dispatcher import BEAT_SECONDS, NAME, Claim, Ended
from lotus_ray.data.pixels.decode_task import DecodeTask, decode_here
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store.results import Store
from lotus_ray.trial.images import Decoders
from lotus_ray.trial.original import OriginalPending
from lotus_ray.trial.run import CellRunner
from lotus_ray.unlearning.contract import Workers

POLL_SECONDS = 0.2
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
    decoders, first_error = _decoders(threads), partial(_first_error, workers=workers)
    line = _Line(place)
    runner = CellRunner(
        workers, device, facts, decoders, place, first_error, line.wait_for_original
    )
    loaded: list[int] = []
    with ExitStack() as locks:
        while claim := _from_first(line.claim(loaded) if not workers.rank else None, workers):
            work_order: WorkOrder = pickle.loads(claim.order)
            if not loaded:
                locks.enter_context(work_order.cache_space.locked())
            loaded = [claim.group, *(group for group in loaded if group != claim.group)][:2]
            ended = _run(runner, work_order, claim, workers, line)
            if not workers.rank:
                line.ended(ended)


def _run(
    runner: CellRunner, work_order: WorkOrder, claim: Claim, workers: Workers, line: _Line
) -> Ended:
    """Run a cell. Raise what the other workers do not see: then Ray starts all of them again."""
    if error := runner.open(work_order):  # the same on every worker
        return Ended(error=error)
    try:
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


class _Line:
    """The first worker's line to the dispatcher."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._start = uuid.uuid4().hex
        self._number = 0
        self._claim: Claim | None = None
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

    def ended(self, ended: Ended) -> None:
        """Say how the cell ended."""
        with self._lock:
            claim, self._claim = self._claim, None
            assert claim is not None
            ray.get(self._dispatcher.ended.remote(self._place, claim.cell_id, ended))

    def fell(self, cause: Exception) -> None:
        """Say why this worker is about to die. Any worker may."""
        ray.get(_dispatcher().fell.remote(self._place, cause))

    def wait_for_original(self, work_order: WorkOrder) -> None:
        """Wait until the original of a group has a row.

        Raises:
            OriginalPending: no place runs it.
        """
        cell, store = work_order.group.original, Store.open(work_order.store)
        while not work_order.is_settled(cell, store):
            runs = ray.get(self._dispatcher.runs.remote(cell.cell_id))
            if not runs and not work_order.is_settled(cell, store):
                raise OriginalPending
            time.sleep(POLL_SECONDS)

    def _beat(self) -> None:
        while True:
            with self._lock:
                if claim := self._claim:
                    beat = (self._place, self._start, self._number, claim)
                    ray.get(self._dispatcher.beat.remote(*beat))
            time.sleep(BEAT_SECONDS)


def _dispatcher() -> Any:
    """Return the dispatcher, which starts after the grid is planned."""
    while True:
        try:
            return ray.get_actor(NAME)
        except ValueError:
            time.sleep(POLL_SECONDS / 2)


def _decoders(threads: int) -> Decoders:
    cpus = node_cpus()
    beside = ray.train.get_context().get_local_world_size()
    spare = max((cpus - beside * threads) // beside, 1)  # CPUs that no worker uses, per worker
    return Decoders(
        partial(_decode, cpus=cpus, threads=threads), partial(stream_pixels, cpus=spare)
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
