"""The last checkpoint of a cell, kept in the store: a killed cell goes on from it.

The run waits only for a copy in memory. A thread hashes and writes it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import ClassVar, Self

import torch

from lotus_ray.base.errors import StoreError, StoreUnreachable
from lotus_ray.base.version import VERSION
from lotus_ray.store.results import Store
from lotus_ray.trial.background import BackgroundWriter
from lotus_ray.unlearning.checkpoint import Checkpoint
from lotus_ray.unlearning.clock import Clock
from lotus_ray.unlearning.contract import Workers

_log = logging.getLogger(__name__)
_VERSIONS = f"lotus-ray {VERSION}, torch {torch.__version__}, timm {version('timm')}"
_DIGEST = hashlib.sha256().digest_size


@dataclass
class StoredCheckpoints:
    """Keeps one checkpoint per cell and row version. The first worker reads and writes for all.

    Any attempt at the cell, by any driver, may go on from it: the cell id says all that the weights
    depend on. Within `every_seconds` at most one checkpoint is made. Once a worker's machine is
    about to be taken away, one is made at each look, and written at once. Others are written when
    the next step has begun, and so none after the last step.

    It is a context: leave it before the cell's row is committed.
    """

    # A durable name: stores that an earlier version left half finished are resumed from here.
    root: ClassVar[str] = "borders/"
    store: Store
    name: str
    workers: Workers
    clock: Clock
    every_seconds: float
    look_seconds: float = 1.0  # between two looks within a phase: each is a call to Ray
    resumed_at: int = 0  # phases that an earlier attempt trained
    _last: float = field(default_factory=time.monotonic)
    _looked: float = field(default_factory=time.monotonic)
    _before: dict[str, float] = field(default_factory=dict)  # seconds of earlier attempts

    def __post_init__(self) -> None:
        self._writer = BackgroundWriter(self._write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Wait until the last checkpoint is written; one that nobody needs any more is dropped."""
        with self.clock.measure("checkpoint"):
            self._writer.close(write_held=error is not None)

    @classmethod
    def folder(cls, cell_id: str) -> str:
        """Return the folder of a cell's checkpoints in the store."""
        return f"{cls.root}{cell_id}/"

    @classmethod
    def file_name(cls, cell_id: str, row_version: int) -> str:
        """Return the name of a checkpoint's file in the store."""
        return f"{cls.folder(cell_id)}{row_version:04d}.pt"

    def load(self) -> Checkpoint | None:
        """Return the checkpoint to go on from, or None."""
        with self.clock.measure("checkpoint"):
            content = self._read() if self.workers.rank == 0 else b""
            content = _bytes_from_first(content, self.workers, self.clock.device)
        if not content:
            return None
        checkpoint = Checkpoint.from_bytes(content)
        self._before = checkpoint.seconds
        self.resumed_at = len(checkpoint.records)
        return checkpoint

    def restored(self) -> None:
        """Add the seconds that led to the checkpoint; count the replay as checkpoint seconds."""
        self.clock.settle()
        replay = self.clock.seconds.pop("unlearn", 0.0)
        self.clock.add({**self._before, "checkpoint": replay + self._before.get("checkpoint", 0.0)})

    def step_ended(self) -> None:
        """Write the checkpoint that was made before this step."""
        self._writer.start()

    def wants_to_look(self) -> bool:
        """Return True if the last look is old enough, and no checkpoint is being written."""
        now = time.monotonic()
        if now - self._looked < self.look_seconds or self._writer.is_busy:
            return False
        self._looked = now
        return True

    def save_if_due(self, checkpoint: Callable[[], Checkpoint]) -> None:
        """Keep a checkpoint if the last one is old enough or this machine is about to go.

        The clock counts the seconds that the run waits as "checkpoint". If the store refuses it,
        the cell goes on without: only the row matters.
        """
        leaving = self.workers.leaving()
        due = leaving or time.monotonic() - self._last >= self.every_seconds
        if self.workers.rank or not due:
            return
        with self.clock.measure("checkpoint"):
            spent = dict(self.clock.seconds)
            self._writer.hold(replace(checkpoint(), seconds=spent).on_cpu())
            if leaving:
                self._writer.start()
        self._last = time.monotonic()

    def _write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, in the thread."""
        content = checkpoint.to_bytes()
        digest = hashlib.sha256(content).digest()
        try:
            self.store.replace(self.name, self._head + digest + content)
        except StoreError as error:
            _log.warning("a checkpoint is not kept: %s", error)

    @property
    def _head(self) -> bytes:
        """Return the head that a checkpoint needs to be used here. Others are ignored."""
        return f"{_VERSIONS}, {self.clock.device.type}\n".encode()

    def _read(self) -> bytes:
        """Return the content of the checkpoint's file, or no bytes if it cannot be used."""
        try:
            file = self.store.find(self.name)
        except StoreUnreachable:
            raise
        except (StoreError, OSError) as error:
            _log.warning("%s cannot be read and is ignored: %s", self.name, error)
            return b""
        if file is None:
            return b""
        head, rest = file[: len(self._head)], file[len(self._head) :]
        digest, content = rest[:_DIGEST], rest[_DIGEST:]
        if head == self._head and digest == hashlib.sha256(content).digest():
            return content
        _log.warning("%s is torn or of other versions, and is ignored", self.name)
        return b""


def _bytes_from_first(content: bytes, workers: Workers, device: torch.device) -> bytes:
    """Return the first worker's bytes on every worker."""
    if workers.size == 1:
        return content
    size = workers.from_first(torch.tensor(len(content), device=device))
    shared = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if workers.rank == 0 and content:
        shared = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(device)
    return bytes(workers.from_first(shared).cpu().numpy()) if int(size) else b""
