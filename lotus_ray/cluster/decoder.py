"""Decode images for a worker of a grid: on its own CPUs while it waits, and on free ones."""

from __future__ import annotations

import logging
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import ray
import torch

from lotus_ray.cluster.decode import decode_beside, free_cpus
from lotus_ray.cluster.decode_jobs import FEW_BYTES, POLL_SECONDS, decode_queue, run_job
from lotus_ray.cluster.decode_queue import NAME, Job, Progress, file_jobs, unpacked
from lotus_ray.data.pixels.chunks import ChunkFolder
from lotus_ray.data.pixels.decode_log import DecodeLog
from lotus_ray.data.pixels.decode_task import Decode, DecodeTask, decode_here, spilled
from lotus_ray.data.pixels.fetch import fetch_all, kept

IDLE_SECONDS = 0.5  # the longest pause of a worker that finds no job, or waits for others
_log = logging.getLogger(__name__)


@contextmanager
def lending(threads: int) -> Iterator[None]:
    """Decode what others wait for, on CPUs that this worker holds and does not use.

    Args:
        threads: how many jobs run at once, until the block ends. Its end waits for them.
    """
    stop, before = threading.Event(), torch.get_num_threads()
    node = ray.get_runtime_context().get_node_id()
    try:
        with ThreadPoolExecutor(max(threads, 1), "decode") as pool:
            try:
                for _ in range(threads):
                    pool.submit(_lend, stop, node)
                yield
            finally:
                stop.set()
    finally:
        torch.set_num_threads(before)


def _lend(stop: threading.Event, node: str) -> None:
    """Run jobs, one after another, each on one thread."""
    torch.set_num_threads(1)
    queue, pause = None, 0.0
    while not stop.wait(pause):
        try:
            queue = queue or ray.get_actor(NAME)
            job: Job | None = ray.get(queue.take.remote(node))
            if job is not None:
                run_job(job, queue)
        except ValueError:  # the queue does not run yet
            job = None
        except ray.exceptions.RayError as error:
            _log.warning("a job of the decode queue was lost: %s", error)
            job = None
        pause = _longer(pause) if job is None else 0.0


def _say_nothing(text: str) -> None:
    """Show nothing."""


class Decoder:
    """Decodes for one worker. It lends the worker's CPUs to all who wait for images."""

    def __init__(self, threads: int, log: DecodeLog) -> None:
        """Start nothing.

        Args:
            threads: CPUs that this worker holds, and does not use while it waits.
            log: notes when images are decoded on a node.
        """
        self._log = log
        self._threads = threads
        self._node: str = ray.get_runtime_context().get_node_id()

    def to_files(self, tasks: Sequence[DecodeTask]) -> Iterable[int]:
        """Write files of decoded images; yield how many images each holds.

        Few images are decoded in this process: tasks of Ray take seconds to start.

        Raises:
            DataError: an image cannot be decoded, or a file cannot be written.
        """
        if self._does_alone(tasks):
            with self._log.decoding():
                yield from decode_here(tasks, self._threads)
            return
        request, queue = uuid.uuid4().hex, decode_queue()
        jobs = file_jobs(tasks, self._node, self._log)
        ask = partial(queue.add_files.remote, request, jobs)
        ray.get(ask())
        self._work(request, jobs, lambda: ray.get(ask()))
        yield from (len(task.row_group) for task in tasks)

    def once(self, folder: ChunkFolder, say: Callable[[str], None] = _say_nothing) -> Decode:
        """Return a function that writes files from the chunks of a folder.

        Images that are in no chunk are decoded into new ones, once for all nodes. The function
        yields how many images were decoded for it.

        Args:
            folder: of the chunks.
            say: shows how many images are decoded, and how many the store holds.
        """
        return partial(self._from_chunks, folder=folder, say=say)

    def lending(self) -> AbstractContextManager[None]:
        """Decode what others wait for, on this worker's CPUs, until the block ends."""
        return lending(self._threads)

    def _does_alone(self, tasks: Sequence[DecodeTask]) -> bool:
        """Return True if the images are few, and this worker has CPUs of its own to decode them."""
        return self._threads > 0 and _pixels(tasks) <= FEW_BYTES

    def _from_chunks(
        self, tasks: Sequence[DecodeTask], folder: ChunkFolder, say: Callable[[str], None]
    ) -> Iterator[int]:
        """Have images decoded that no chunk holds; then write files from chunks."""
        if not tasks:
            return
        request, queue = uuid.uuid4().hex, decode_queue()
        wanted = pickle.dumps([task.row_group for task in tasks])

        def ask() -> list[Job]:
            records = [] if ray.get(queue.knows.remote(folder.key)) else folder.records()
            new = (request, folder, wanted, records, self._log)
            jobs: list[Job] = ray.get(queue.add_images.remote(*new))
            return jobs

        jobs = ask()
        ids = [name for task in tasks for name in task.row_group.sample_ids]
        new = sum(job.images for job in jobs)
        old = len(ids) - new
        say(f"decoding {new:,} images for all nodes, fetching {old:,} others{spilled(tasks)}")
        self._work(request, [] if self._does_alone(tasks) else jobs, ask)
        while (records := ray.get(queue.records.remote(folder.key, ids))) is None:
            jobs = ask()  # the queue died since
            self._work(request, [] if self._threads else jobs, ask)
        yield new
        yield fetch_all(tasks, folder, kept(map(unpacked, records)))

    def _work(self, request: str, jobs: Sequence[Job], ask: Callable[[], object]) -> None:
        """Wait for a request; meanwhile decode here, and by Ray Data on CPUs that are free.

        Args:
            request: that waits.
            jobs: new ones, for Ray Data.
            ask: makes the request again, if the queue has died.
        """
        queue = decode_queue()
        # Without CPUs of its own a worker needs the tasks, even if they wait for a CPU.
        cpus = min(max(free_cpus(), not self._threads), len(jobs)) if jobs else 0
        failed: list[Exception] = []  # by Ray Data
        if cpus:
            threading.Thread(target=_beside, args=(jobs, cpus, failed), daemon=True).start()
        left, pause, error = 0, 0.0, None
        with self.lending():
            while True:
                progress: Progress | None = ray.get(queue.progress.remote(request))
                if progress is None:
                    ask()
                elif progress.error is not None or not progress.left:
                    error = progress.error
                    break
                elif failed and not self._threads:
                    error = failed[0]
                    break
                else:
                    pause = _longer(pause if progress.left == left else 0.0)
                    left = progress.left
                    time.sleep(pause)
        ray.get(queue.forget.remote(request))
        if error is not None:
            raise error


def _longer(pause: float) -> float:
    """Return the pause after a pause that was not long enough."""
    return min(2 * pause + POLL_SECONDS, IDLE_SECONDS)


def _pixels(tasks: Sequence[DecodeTask]) -> int:
    """Return the bytes of decoded images in all files."""
    return sum(len(task.row_group) * task.transform.image_bytes for task in tasks)


def _beside(jobs: Sequence[Job], cpus: int, failed: list[Exception]) -> None:
    """Decode by Ray Data, in a thread. Without it, the workers that wait decode.

    Args:
        jobs: of the queue.
        cpus: how many run at once.
        failed: takes the error, if Ray Data does not decode.
    """
    try:
        decode_beside(jobs, cpus)
    except Exception as error:  # Ray Data's own: a job's error goes to the queue
        _log.warning("Ray Data does not decode: %s", error)
        failed.append(error)
