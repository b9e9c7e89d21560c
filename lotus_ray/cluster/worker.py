"""The work of each worker of a place: claim a cell, run it, say how it ended, claim the next."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from functools import partial

import ray
import torch
import torch.distributed

from lotus_ray.base.errors import ImagesDoNotFit, LotusRayError, StoreError
from lotus_ray.base.machine import machine_facts
from lotus_ray.base.memory import limit_gpu_memory
from lotus_ray.cluster.ahead import Ahead
from lotus_ray.cluster.autoscaler import node_types
from lotus_ray.cluster.causes import explain
from lotus_ray.cluster.commits import Commits
from lotus_ray.cluster.decoder import Decoder, lending
from lotus_ray.cluster.messages import CLOSE_GROUPS, Claim, Ended
from lotus_ray.cluster.place_line import PlaceLine
from lotus_ray.cluster.stream import stream_pixels
from lotus_ray.cluster.worker_group import join_workers
from lotus_ray.data.pixels.cache_space import Waiting
from lotus_ray.data.pixels.chunks import ChunkFolder
from lotus_ray.data.pixels.decode_task import announcing
from lotus_ray.job.schema.resources import Resources
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.trial.images import Decoders
from lotus_ray.trial.inputs import ensure_access
from lotus_ray.trial.original import OriginalPending
from lotus_ray.trial.run import CellRunner
from lotus_ray.unlearning.contract import Workers

Bring = Callable[[int | None], None]  # begins to bring the images of a group


def work_at_place(place: str, resources: Resources) -> LotusRayError | None:
    """Run cells on this worker until there are no more.

    Args:
        place: its name.
        resources: of each worker.

    Returns:
        Why this place can run no cell at all; None: there are no more cells.
    """
    workers, device = join_workers()
    threads, gpus = resources.cpus_per_worker, resources.gpus_per_worker
    torch.set_num_threads(threads)
    limit_gpu_memory(device, gpus)
    facts = machine_facts(device, workers.size, gpus)
    facts["versions"]["ray"] = ray.__version__
    facts["place"] = place  # for `lotus-ray status`
    line, commits = PlaceLine(place, workers.size), Commits()
    first_error = partial(_first_error, workers=workers)
    # On a CPU a commit would slow down the steps of the next cell, and their seconds are ranked.
    before_training = commits.wait if device.type == "cpu" else _at_once
    runner = CellRunner(
        workers,
        device,
        facts,
        partial(_decoders, threads=threads, workers=workers.size, line=line),
        place,
        first_error,
        line.wait_for_original,
        commits.take,
        before_training,
    )
    line.position = runner.position
    # On a CPU it would take time from the steps of the cell.
    brings = device.type == "cuda" and workers.on_this_node[0] == workers.rank and _has_nodes()
    with ExitStack() as locks, commits, closing(Ahead(line.order, brings)) as ahead:
        return work(workers, runner, line, commits, locks, partial(lending, threads), ahead.begin)


def work(
    workers: Workers,
    runner: CellRunner,
    line: PlaceLine,
    commits: Commits,
    locks: ExitStack,
    waiting: Waiting = nullcontext,
    bring: Bring = lambda group: None,
) -> LotusRayError | None:
    """Claim cells and run them. A place that cannot open a group tries the others.

    Args:
        workers: the workers of the place.
        runner: runs a cell.
        line: to the dispatcher.
        commits: commits cells.
        locks: keeps the lock of this node's decoded images.
        waiting: returns a context that is open while no cell is ready.
        bring: gets the next group, or None.

    Returns:
        Why no group can be opened here; None: there are no more cells.
    """
    loaded: dict[int, WorkOrder] = {}  # the groups that are open
    is_locked = False
    without_room: set[int] = set()  # groups for which this node had no room
    wrong: LotusRayError | None = None  # why the last group could not be opened

    def next_claim() -> Claim | None:
        with waiting():
            stays = runner.is_short_of_room
            return _from_first(
                line.claim(list(loaded), stays) if not workers.rank else None, workers
            )

    claim = next_claim()
    while claim:
        if claim == CLOSE_GROUPS:
            runner.close()
            _first_error(None, workers)  # all have closed theirs
            loaded.clear()
            claim = next_claim()
            continue
        work_order: WorkOrder = pickle.loads(claim.order)
        line.tags = _tags(work_order, claim)
        lock = None if is_locked else work_order.cache_space.locked()
        error = _locked(lock, locks, workers)
        is_locked = error is None
        error = error or _opened(runner, work_order, workers, line)
        loaded = {g: order for g, order in loaded.items() if runner.is_open(order)}
        if error is None:
            loaded[claim.group] = work_order
            bring(claim.next_group)
            ended = _run(runner, work_order, claim, workers, line) if claim.cell_id else None
            error = ended if isinstance(ended, LotusRayError) else None
        runner.rest()
        _first_error(None, workers)  # all rest, before others try again what did not fit
        if isinstance(error, ImagesDoNotFit):
            if not workers.rank:
                line.refused(claim, error)
                if claim.group not in without_room:
                    line.say(f"cells of {work_order.group.name} wait for room: {error.what}")
            without_room.add(claim.group)
            claim = next_claim()
            continue
        if error is not None:
            wrong = wrong or error
            other = line.refused(claim, error) if not workers.rank else None
            if not is_locked or isinstance(error, StoreError):
                return error  # nothing can run here
            if (claim := _from_first(other, workers)) is None:
                return wrong
            continue
        if wrong is not None and not workers.rank:
            line.say(f"leaves a group of cells to other places: {wrong.what}")
        wrong = None
        if isinstance(ended, Ended) and not workers.rank:
            _end(ended, claim, commits, line)
        runner.position.begin(Counter())  # the next cell has not begun
        claim = next_claim()
    return None


def _opened(
    runner: CellRunner, work_order: WorkOrder, workers: Workers, line: PlaceLine
) -> LotusRayError | None:
    """Open a group. Return why it cannot be opened here; raise what other workers do not see."""
    try:
        return runner.open(work_order)  # the same on every worker
    except Exception as error:
        if workers.size > 1:
            line.fell(error)
            raise
        return explain(error, f"the images of {work_order.group.name} cannot be used here")


def _run(
    runner: CellRunner, work_order: WorkOrder, claim: Claim, workers: Workers, line: PlaceLine
) -> Ended | LotusRayError:
    """Run a cell. Raise what the other workers do not see: then Ray starts all of them again.

    Returns:
        How the cell ended; or why this node has lost the store, where another place may go on.
    """
    try:
        return Ended(runner.run(work_order, work_order.cell(claim.cell_id)))
    except ImagesDoNotFit as error:  # they were removed just now; the same on every worker
        return error
    except OriginalPending:  # the same on every worker
        return Ended(pending=True)
    except LotusRayError as error:
        if workers.size > 1:
            line.fell(error)
            raise
        return _lost_store(work_order, error) or Ended(error=error)
    except Exception as error:
        line.fell(error)
        raise


def _lost_store(work_order: WorkOrder, error: LotusRayError) -> StoreError | None:
    """Return the store's error if this node sees the store no more, or None."""
    if not isinstance(error, StoreError):
        return None
    try:
        ensure_access(work_order)
    except StoreError as lost:
        return lost
    return None


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
    label = work_order.cell(claim.cell_id).label if claim.cell_id else ""
    return {"cell": claim.cell_id, "method": label, "group": work_order.group.name}


def _end(ended: Ended, claim: Claim, commits: Commits, line: PlaceLine) -> None:
    """Say how a cell ended: now, or when its row is committed."""

    def committed(error: Exception | None) -> None:
        if error is None:
            line.ended(claim, ended)
        else:  # what nobody expects is a death of this cell: the next one runs already
            died = not isinstance(error, LotusRayError)
            line.ended(claim, Ended(error=error, died=died))

    if commits.is_due:
        line.trained()
        commits.start(committed)
    else:
        line.ended(claim, ended)


def _at_once() -> None:
    """Do not wait."""


def _decoders(work_order: WorkOrder, threads: int, workers: int, line: PlaceLine) -> Decoders:
    """Return what decodes the images of a group: once for all nodes, where there are several."""
    decoder = Decoder(threads, work_order.cache_space.decode_log)
    decode = announcing(decoder.to_files, line.say)
    if _has_nodes():
        folder = ChunkFolder(work_order.store, work_order.chunks_key, work_order.group.transform)
        decode = decoder.once(folder, line.say)
    return Decoders(
        decode, partial(stream_pixels, threads=threads, workers=workers), decoder.lending
    )


def _has_nodes() -> bool:
    """Return True if the cluster has several nodes, or may get more."""
    return sum(node["Alive"] for node in ray.nodes()) > 1 or bool(node_types())


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
