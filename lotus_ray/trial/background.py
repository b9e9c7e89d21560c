"""A thread that writes what it is given, while the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class BackgroundWriter(Generic[T]):
    """Writes one thing at a time, and of those that wait only the newest.

    What is held is not written before `start`: a run that ends does not need it any more. Each
    method raises what an earlier write raised.
    """

    write: Callable[[T], None]
    _held: T | None = None
    _writes: list[Future[None]] = field(default_factory=list)  # started, perhaps still running
    _thread: ThreadPoolExecutor | None = None

    @property
    def is_busy(self) -> bool:
        """True while something is written."""
        return any(not write.done() for write in self._writes)

    def hold(self, thing: T) -> None:
        """Keep a thing until `start`, in place of one that is held already."""
        self._held = thing

    def start(self) -> None:
        """Write what is held, once the thread is free, in place of what still waits for it."""
        if self._held is None:
            return
        self._writes = [write for write in self._writes if not write.cancel()]
        for write in [write for write in self._writes if write.done()]:
            self._writes.remove(write)
            write.result()
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._writes.append(self._thread.submit(self.write, self._held))
        self._held = None

    def close(self, *, write_held: bool) -> None:
        """Wait until all that was started is written. What is held is written too, or dropped."""
        try:
            if write_held:
                self.start()
            for write in self._writes:
                write.result()
        finally:
            self._held = None
            self._writes.clear()
            if self._thread:
                self._thread.shutdown()
                self._thread = None
