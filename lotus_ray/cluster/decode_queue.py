"""Which images wait to be decoded, and who decodes them: an actor that every node asks.

Images are decoded by workers that wait for them, on the CPUs that they hold, and by tasks of Ray
Data, on CPUs that nobody holds. Both take jobs here, so that no image is decoded twice. Only claims
live here: if this actor dies, Ray starts it again, and those who wait ask anew.
"""

from __future__ import annotations

import pickle
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lotus_ray.data.pixels.chunk_index import ChunkIndex
from lotus_ray.data.pixels.chunks import ChunkFolder, ChunkRecord, ChunkTask, cut
from lotus_ray.data.pixels.decode_log import DecodeLog
from lotus_ray.data.pixels.decode_task import DecodeTask
from lotus_ray.data.pixels.row_groups import RowGroupImages

NAME = "lotus-ray-decode-queue"
LEASE_SECONDS = 60.0  # after which a job that did not end is given to another one


class Job(NamedTuple):
    """Images to decode together."""

    name: str
    content: bytes  # a packed DecodeTask or ChunkTask
    node: str | None  # whose file it writes; None: any node may run it
    images: int
    log: DecodeLog  # of the node that runs it


class Progress(NamedTuple):
    """How far the images are that somebody waits for."""

    left: int  # jobs that have not ended
    error: Exception | None  # of a job that failed


@dataclass
class _Open:
    """A job that has not ended."""

    job: Job
    taken: float | None = None  # when it was taken last

    def is_free(self, now: float) -> bool:
        return self.taken is None or now - self.taken > LEASE_SECONDS


class DecodeQueue:
    """The jobs of a grid, and who waits for which."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}  # by name
        self._waiting: dict[str, set[str]] = {}  # names of open jobs, by request
        self._errors: dict[str, Exception] = {}  # by request
        self._records: dict[str, dict[str, bytes]] = {}  # packed, by key of a folder and name
        self._indexes: dict[str, ChunkIndex] = {}  # by key; some chunks are open

    def add_files(self, request: str, jobs: Sequence[Job]) -> None:
        """Ask for files of one node.

        One process of a node asks at a time. So whoever asked for files there before has died, and
        nobody waits for those.
        """
        nodes = {job.node for job in jobs}
        for other, names in list(self._waiting.items()):
            if other != request and any(self._open[name].job.node in nodes for name in names):
                self.forget(other)
        for job in jobs:
            self._open[job.name] = _Open(job)
        self._waiting[request] = {job.name for job in jobs}

    def knows(self, key: str) -> bool:
        """Return True if the chunks of a folder were read from the store already."""
        return key in self._records

    def add_images(
        self,
        request: str,
        folder: ChunkFolder,
        wanted: bytes,
        records: Sequence[ChunkRecord],
        log: DecodeLog,
    ) -> list[Job]:
        """Ask for images that every node may need.

        Args:
            request: a new name.
            folder: of the chunks.
            wanted: pickled list of RowGroupImages.
            records: of chunks in the store.
            log: of the command, on every node.

        Returns:
            New jobs: for images that are in no chunk and in no open job.
        """
        known = self._records.setdefault(folder.key, {})
        index = self._indexes.setdefault(folder.key, ChunkIndex())
        new = [record for record in records if record.name not in known]
        known |= {record.name: packed(record) for record in new}
        # What could not be decoded is tried again: memory may have been short.
        index.add(([n for n in each.sample_ids if n not in each.bad], each.name) for each in new)
        row_groups: list[RowGroupImages] = pickle.loads(wanted)
        jobs, added = [], []
        for task in cut(folder, _without(row_groups, index)):
            ids = task.sample_ids
            name = _job_name(folder, task.name)
            jobs.append(Job(name, packed(task), None, len(ids), log))
            self._open[name] = _Open(jobs[-1])
            added.append((ids, task.name))
        index.add(added)
        chunks = (index.chunks_of(row_group.sample_ids) or () for row_group in row_groups)
        names = {_job_name(folder, chunk) for each in chunks for chunk in each}
        self._waiting[request] = {name for name in names if name in self._open}
        return jobs

    def records(self, key: str, sample_ids: Sequence[str]) -> list[bytes] | None:
        """Return the packed records of the chunks with some images; None if one is not here."""
        index, known = self._indexes.get(key, ChunkIndex()), self._records.get(key, {})
        names = index.chunks_of(sample_ids)
        if names is None or not names <= known.keys():
            return None
        return [known[name] for name in names]

    def take(self, node: str) -> Job | None:
        """Return a job for a worker that waits on a node, the last one first; None if none is."""
        now = time.monotonic()
        for each in reversed(self._open.values()):
            if each.job.node in (None, node) and each.is_free(now):
                each.taken = now
                return each.job
        return None

    def claim(self, name: str) -> bool:
        """Return True if a task may run a job: nobody has taken it."""
        each, now = self._open.get(name), time.monotonic()
        if each is None or not each.is_free(now):
            return False
        each.taken = now
        return True

    def ended(self, name: str, result: int | ChunkRecord | Exception) -> None:
        """Say how a job ended: images in its file, the record of its chunk, or why it failed."""
        each = self._open.pop(name, None)
        if each is None:
            return  # it was given to two, and the other one was first
        if each.job.node is None:
            self._keep(unpacked(each.job.content), result)
        for request, names in self._waiting.items():
            if name in names:
                names.discard(name)
                if isinstance(result, Exception):
                    self._errors[request] = result

    def progress(self, request: str) -> Progress | None:
        """Return how far a request is; None if this queue does not know it."""
        if request not in self._waiting:
            return None
        return Progress(len(self._waiting[request]), self._errors.get(request))

    def forget(self, request: str) -> None:
        """Nobody waits for a request any more. Chunks stay asked for: others may wait for them."""
        self._errors.pop(request, None)
        for name in self._waiting.pop(request, ()):
            if self._open[name].job.node is not None:
                del self._open[name]

    def _keep(self, task: ChunkTask, result: int | ChunkRecord | Exception) -> None:
        """Keep the record of a chunk, or forget that its images were about to be in one."""
        key = task.folder.key
        if isinstance(result, ChunkRecord):
            self._records[key][result.name] = packed(result)
        else:
            self._indexes[key].drop(task.name)


def packed(content: DecodeTask | ChunkTask | ChunkRecord) -> bytes:
    """Pack a task or a record: most of it are ids, of which each is much like the next."""
    return zlib.compress(pickle.dumps(content), level=1)


def unpacked(content: bytes) -> Any:
    """Return what `packed` packed."""
    return pickle.loads(zlib.decompress(content))


def _job_name(folder: ChunkFolder, chunk: str) -> str:
    return f"{folder.key}/{chunk}"


def _without(row_groups: Sequence[RowGroupImages], index: ChunkIndex) -> list[RowGroupImages]:
    """Return the images that are in no chunk, by row group."""
    parts = []
    for row_group in row_groups:
        is_new = ~index.holds(row_group.sample_ids)
        if is_new.any():
            parts.append(row_group.only(is_new))
    return parts


def file_jobs(tasks: Sequence[DecodeTask], node: str, log: DecodeLog) -> list[Job]:
    """Return the jobs of files on a node."""
    return [Job(str(task.path), packed(task), node, len(task.row_group), log) for task in tasks]
