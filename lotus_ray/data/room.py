"""Room for decoded images on a node: how much, where, and who clears it away.

Each command has a folder of its own in memory (/dev/shm) and one on the local disk. Whoever uses
them holds a lock, which the system lets go when a process dies, however it dies. So folders whose
lock is free are garbage, and the next command on the node removes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

GIB = 1 << 30
IN_MEMORY = Path("/dev/shm")
_PREFIX = "lotus-ray-"


@dataclass(frozen=True)
class Room:
    """How many bytes of pixels a command may keep on each node, and where.

    What `memory_bytes` do not hold goes to files on the local disk in `scratch`, mapped into
    memory; `disk_bytes` bound those, None by what the disk has free.
    """

    memory_bytes: int = 8 * GIB
    disk_bytes: int | None = None
    scratch: str = field(default_factory=tempfile.gettempdir)
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def memory(self) -> Path:
        """Return the folder in memory; where a system has no such place, one on the disk."""
        return self._folder(IN_MEMORY if IN_MEMORY.is_dir() else Path(self.scratch), "memory")

    @property
    def disk(self) -> Path:
        """Return the folder on the disk."""
        return self._folder(Path(self.scratch), "disk")

    def memory_left(self) -> int:
        """Return how many bytes may still go to the folder in memory."""
        free = min(_free_bytes(self.memory.parent), _available_memory() // 2)
        return max(min(self.memory_bytes - _bytes_in(self.memory), free), 0)

    def disk_left(self) -> int:
        """Return how many bytes may still go to the folder on the disk."""
        free = _free_bytes(Path(self.scratch))
        bound = free if self.disk_bytes is None else self.disk_bytes - _bytes_in(self.disk)
        return max(min(bound, free), 0)

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Keep the folders of this node from being taken for garbage, and clear away what is."""
        folders = (self.memory, self.disk)
        for parent in {folder.parent for folder in folders}:
            _sweep(parent)
        held = [_shared_lock(folder) for folder in folders]
        try:
            for folder in folders:
                folder.mkdir(exist_ok=True)
            yield
        finally:
            for lock in held:
                lock.close()

    def clear(self) -> None:
        """Remove what the command keeps on this node."""
        for folder in (self.memory, self.disk):
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)

    def _folder(self, parent: Path, kind: str) -> Path:
        return parent / f"{_PREFIX}{self.session}-{kind}"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other process of this node is in this block for the same folder."""
    with (folder / ".alone").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _shared_lock(folder: Path) -> IO[str]:
    """Return a lock that any number of processes hold at once, on a file that still exists."""
    path = _lock_of(folder)
    while True:
        lock = path.open("a")
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        lock.close()  # another process took the file for garbage in between


def _sweep(parent: Path) -> None:
    """Remove the folders of commands that are gone."""
    for path in parent.glob(f"{_PREFIX}*.lock"):
        with suppress(OSError), path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _available_memory() -> int:
    """Return how many bytes of memory the system can give away; where it does not say, a lot."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")
        )
    except (OSError, StopIteration):
        return 1 << 60


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
