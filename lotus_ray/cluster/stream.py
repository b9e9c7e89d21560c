"""Images that stream past a worker: decoded on CPUs that nobody holds, else by the worker."""

from __future__ import annotations

import logging
import pickle
import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from lotus_ray.cluster.decode import Columns, free_cpus, mapped
from lotus_ray.data.pixels.lookup import Decoded, stream_here
from lotus_ray.data.pixels.row_groups import RowGroupImages
from lotus_ray.data.pixels.transform import Transform

STALL_SECONDS = 30.0  # in which a task starts and decodes a row group, where a CPU is free
_log = logging.getLogger(__name__)


def stream_pixels(
    row_groups: Sequence[RowGroupImages],
    transform: Transform,
    threads: int,
    workers: int,
    ahead_bytes: int,
) -> Iterator[Decoded]:
    """Decode row groups; yield rows [n] and pixels [n, 3, H, W] in their order.

    Tasks of Ray Data decode, on CPUs that nobody holds. Workers may hold all CPUs until this very
    stream has ended, and then no task ever starts: so this worker decodes what no task brings in
    time, on its own CPUs. It also decodes what a task failed at, whose node may not see the files.

    Args:
        row_groups: the images.
        transform: from encoded images to pixels.
        threads: of this worker.
        workers: that stream at the same time, and share the free CPUs.
        ahead_bytes: Ray Data decodes about this much before it is used.

    Raises:
        DataError: an image cannot be decoded.
    """
    free, done = free_cpus(), 0
    if free and row_groups:
        at_once = min(max(free // workers, 1), len(row_groups))
        for rows, pixels in _from_tasks(_batches(row_groups, transform, at_once, ahead_bytes)):
            done += len(rows)
            yield rows, pixels
    yield from stream_here(_after(row_groups, done), transform, threads)


def _batches(
    row_groups: Sequence[RowGroupImages], transform: Transform, at_once: int, ahead_bytes: int
) -> Iterator[Columns]:
    """Yield rows and pixels, as tasks of Ray Data decode them, in the order of the row groups."""

    def run(items: Columns) -> Columns:
        row_group: RowGroupImages = pickle.loads(items["item"][0])
        torch.set_num_threads(1)
        parts = [(encoded.rows, encoded.decode(transform)) for encoded in row_group.read()]
        rows, pixels = zip(*parts, strict=True)
        return {"row": np.concatenate(rows), "pixels": np.concatenate(pixels)}

    pickled = [pickle.dumps(row_group) for row_group in row_groups]
    decoded = mapped(run, pickled, at_once, ahead_bytes)
    yield from decoded.iter_batches(batch_size=None, prefetch_batches=0)


def _from_tasks(batches: Iterator[Columns]) -> Iterator[Decoded]:
    """Yield what tasks decode, until all is there, none comes for STALL_SECONDS, or one fails.

    A thread waits for each batch when it is wanted, so it holds no more than this generator would.
    """
    wanted, is_over = threading.Semaphore(0), threading.Event()
    found = queue.SimpleQueue[Columns | Exception | None]()

    def feed() -> None:
        batch: Columns | None = {}
        try:
            while batch is not None:
                del batch
                wanted.acquire()
                if is_over.is_set():
                    break
                batch = next(batches, None)
                found.put(batch)
        except Exception as error:
            found.put(error)

    threading.Thread(target=feed, daemon=True, name="stream").start()
    why: object = f"no task has decoded anything for {STALL_SECONDS:.0f} s"
    try:
        while True:
            wanted.release()
            batch = found.get(timeout=STALL_SECONDS)
            if batch is None:
                return
            if isinstance(batch, Exception):
                why = batch
                break
            yield batch["row"], batch["pixels"]
    except queue.Empty:
        pass
    finally:
        is_over.set()
        wanted.release()
    _log.warning("this worker decodes the rest of a stream: %s", why)


def _after(row_groups: Sequence[RowGroupImages], done: int) -> list[RowGroupImages]:
    """Return what is left of row groups when so many images are done."""
    left = []
    for row_group in row_groups:
        if done < len(row_group):
            left.append(row_group.only(np.arange(done, len(row_group))) if done else row_group)
        done = max(done - len(row_group), 0)
    return left
