"""Bring the images of a place's next group to its node while a cell runs on a GPU.

What the store holds is fetched. What it does not hold is decoded first, by nodes that have CPUs
alone, if there are any. All this is help: what is not here in time is fetched or decoded when the
group is opened.
"""

from __future__ import annotations

import logging
import pickle
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import ray

from lotus_ray.cluster.decode import decode_beside, free_cpus
from lotus_ray.cluster.decode_jobs import decode_queue
from lotus_ray.cluster.decode_queue import Job, unpacked
from lotus_ray.cluster.nodes import nodes_of_cpus
from lotus_ray.data.pixels.cache_space import GIB
from lotus_ray.data.pixels.chunks import ChunkFolder
from lotus_ray.data.pixels.decode_log import DecodeLog
from lotus_ray.data.pixels.decode_task import DecodeTask
from lotus_ray.data.pixels.fetch import fetch_all, kept
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.trial.images import files_of
from lotus_ray.trial.inputs import ensure_access, load_roles

SLICE_BYTES = GIB  # fetched while nobody else on the node may open a group
_JOIN_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Ahead:
    """Brings the images of one group at a time, in a thread."""

    def __init__(self, order: Callable[[int], bytes], is_on: bool = True) -> None:
        """Start nothing.

        Args:
            order: returns the pickled work order of a group.
            is_on: False: nothing is ever brought.
        """
        self._order = order
        self._is_on = is_on
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._brought: int | None = None  # the last group

    def begin(self, group: int | None) -> None:
        """Begin to bring the images of a group, unless those of one are being brought.

        Args:
            group: its number; None: do nothing.
        """
        is_busy = self._thread is not None and self._thread.is_alive()
        if group not in (None, self._brought) and not is_busy and self._is_on:
            self._brought = group
            self._thread = threading.Thread(target=self._bring, args=(group,), daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop. What was brought stays."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    def _bring(self, group: int) -> None:
        try:
            work_order: WorkOrder = pickle.loads(self._order(group))
            bring(work_order, nodes_of_cpus(), self._stop)
        except Exception as error:  # it is met again when the group is opened, and said then
            _log.info("images of the next group are not here yet: %s", error)


def bring(work_order: WorkOrder, nodes: Mapping[str, int], stop: threading.Event) -> None:
    """Bring the images of a group to this node, if all of them fit. Nothing is removed for them.

    Args:
        work_order: of the group.
        nodes: those that decode what the store does not hold: their CPUs, by id.
        stop: ends it early.

    Raises:
        LotusRayError: the images cannot be used.
    """
    ensure_access(work_order)
    group, roles = work_order.group, load_roles(work_order)
    folder = ChunkFolder(work_order.store, work_order.chunks_key, group.transform)
    row_groups = wanted_row_groups(group.manifests, roles)
    space, image_bytes = work_order.cache_space, group.transform.image_bytes
    if len(roles) * image_bytes > space.memory_left() + space.disk_left():
        return
    log, files = space.decode_log, files_of(group, space)
    _decode(folder, row_groups, nodes, log)
    fetch = partial(_fetched, folder=folder, log=log)
    for part in _slices(row_groups, image_bytes):
        if stop.is_set():
            return
        files.ensure(part, roles, fetch, work_order.max_bad_images, may_remove=False)
        files.rest()  # images of a cell that is about to run go first


def _decode(
    folder: ChunkFolder,
    row_groups: Sequence[RowGroupImages],
    nodes: Mapping[str, int],
    log: DecodeLog,
) -> None:
    """Have images decoded that are in no chunk, on CPUs of some nodes that nobody holds."""
    queue, request = decode_queue(), uuid.uuid4().hex
    cpus = min(sum(nodes.values()), free_cpus())
    records = [] if ray.get(queue.knows.remote(folder.key)) else folder.records()
    wanted = pickle.dumps(row_groups if cpus else [])
    jobs: list[Job] = ray.get(queue.add_images.remote(request, folder, wanted, records, log))
    try:
        if jobs:
            decode_beside(jobs, min(cpus, len(jobs)), list(nodes))
    finally:
        ray.get(queue.forget.remote(request))


def _fetched(tasks: Sequence[DecodeTask], folder: ChunkFolder, log: DecodeLog) -> Iterator[int]:
    """Write files from chunks, if all their images are in some."""
    ids = [name for task in tasks for name in task.row_group.sample_ids]
    records = ray.get(decode_queue().records.remote(folder.key, ids))
    if records is not None:
        with log.decoding():  # it takes CPU time beside a cell, too
            yield fetch_all(tasks, folder, kept(map(unpacked, records)))


def _slices(
    row_groups: Sequence[RowGroupImages], image_bytes: int
) -> Iterator[list[RowGroupImages]]:
    """Cut row groups into lists of about SLICE_BYTES of pixels."""
    part, size = list[RowGroupImages](), 0
    for row_group in row_groups:
        part.append(row_group)
        size += len(row_group) * image_bytes
        if size >= SLICE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
