"""Wall seconds by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Clock:
    """Wall seconds by name. On a GPU, the clock waits for queued work before it is read.

    The time of a block inside another block counts for the inner one alone.
    """

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the duration of the block to `seconds[name]`."""
        self.settle()
        self._running.append(name)
        try:
            yield
        finally:
            self.settle()
            self._running.pop()

    def settle(self) -> None:
        """Count the time until now for the block that runs."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        if self._running:
            self.add({self._running[-1]: now - self._since})
        self._since = now

    def add(self, seconds: dict[str, float]) -> None:
        """Add seconds, by name, that were spent elsewhere."""
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value
