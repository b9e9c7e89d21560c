"""The last phase border of a cell, in its store: what a killed cell goes on from."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from lotus_ray import __version__
from lotus_ray.borders import Border
from lotus_ray.engine import Clock
from lotus_ray.problem import Workers
from lotus_ray.store import Store

_log = logging.getLogger(__name__)
_HEAD = f"lotus-ray {__version__}, torch {torch.__version__}\n".encode()  # others start anew
_DIGEST = hashlib.sha256().digest_size


@dataclass
class StoredBorders:
    """Keeps one border a cell and generation; the first worker reads and writes for all.

    Any attempt at the cell may go on from it, by whichever driver: the cell's id says all that
    the weights depend on. At most one border is written in `every_seconds`.
    """

    store: Store
    name: str
    workers: Workers
    clock: Clock
    every_seconds: float
    resumed_at: int = 0  # phases that an earlier attempt trained
    _last: float = field(default_factory=time.monotonic)

    @classmethod
    def place(cls, cell_id: str, generation: int) -> str:
        """Return the name of a cell's border in the store."""
        return f"borders/{cell_id}/{generation:04d}.pt"

    def load(self) -> Border | None:
        """Return the border to go on from, and count the seconds that led to it."""
        content = self._read() if self.workers.rank == 0 else b""
        content = _bytes_from_first(content, self.workers, self.clock.device)
        if not content:
            return None
        border = Border.from_bytes(content, self.clock.device)
        self.clock.add(border.seconds)
        self.resumed_at = len(border.records)
        return border

    def offer(self, border: Callable[[], Border]) -> None:
        """Keep a border if the last one is old enough. The time it takes is its own."""
        if self.workers.rank or time.monotonic() - self._last < self.every_seconds:
            return
        with self.clock.measure("checkpoint"):
            spent = dict(self.clock.seconds)
            content = replace(border(), seconds=spent).to_bytes()
            digest = hashlib.sha256(content).digest()
            self.store.replace(self.name, _HEAD + digest + content)
        self._last = time.monotonic()

    def _read(self) -> bytes:
        """Return the border's file without its head, or nothing where it is of no use."""
        found = self.store.find(self.name)
        if found is None:
            return b""
        head, digest = found[: len(_HEAD)], found[len(_HEAD) : len(_HEAD) + _DIGEST]
        content = found[len(_HEAD) + _DIGEST :]
        if head == _HEAD and digest == hashlib.sha256(content).digest():
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
