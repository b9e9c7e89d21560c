"""CacheSpace for decoded images on a node: how much, where, and who clears it away.

Each command has a folder of its own in memory (/dev/shm) and one on the local disk. Whoever uses
them holds a lock, which the system lets go when a process dies, however it dies. So folders whose
lock is free are garbage, and the next command on the node removes them.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lotus_ray.base.errors import DataError

GIB = 1 << 30
IN_MEMORY = Path("/dev/shm")
_PREFIX = "lotus-ray-"
_LOCK = re.compile(rf"{_PREFIX}[0-9a-f]{{12}}-(memory|disk)\.lock")
_SPARE_DISK = GIB  # for the store, which often lies on the same disk


@dataclass(frozen=True)
class CacheSpace:
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
        free = _free_bytes(Path(self.scratch)) - _SPARE_DISK
        bound = free if self.disk_bytes is None else self.disk_bytes - _bytes_in(self.disk)
        return max(min(bound, free), 0)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folders of this node from being taken for garbage, and clear away what is.

        Raises:
            DataError: they cannot be made, or are not this user's alone.
        """
        folders = (self.memory, self.disk)
        held: list[IO[str]] = []
        try:
            with _said(folders):
                for parent in {folder.parent for folder in folders}:
                    _sweep(parent)
                for folder in folders:
                    held.append(_shared_lock(folder))
                    folder.mkdir(mode=0o700, exist_ok=True)
                    if not _is_ours(folder.lstat(), stat.S_ISDIR):
                        raise FileExistsError(0, "it exists and is somebody else's", str(folder))
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
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Wait until no other process of this node is in this block for the same folder."""
    with (folder / ".alone").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def _said(folders: tuple[Path, ...]) -> Iterator[None]:
    """Turn what the system says against the folders into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"there is no place for decoded images: {error.strerror or error}",
            where=error.filename or str(folders[-1].parent),
            next_command="lotus-ray grid JOB.yaml --set resources.scratch=FOLDER",
        ) from error


def _is_ours(found: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(found.st_mode) and found.st_uid == os.getuid()


def _open_lock(path: Path) -> IO[str]:
    """Open a lock file, but no link and nothing that another user put there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    lock = os.fdopen(os.open(path, flags, 0o600), "r+")
    if not _is_ours(os.fstat(lock.fileno()), stat.S_ISREG):
        lock.close()
        raise FileExistsError(0, "it exists and is somebody else's", str(path))
    return lock


def _shared_lock(folder: Path) -> IO[str]:
    """Return a lock that any number of processes hold at once, on a file that still exists."""
    path = _lock_of(folder)
    while True:
        lock = _open_lock(path)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        lock.close()  # another process took the file for garbage in between


def _sweep(parent: Path) -> None:
    """Remove the folders of commands that are gone."""
    for path in parent.glob(f"{_PREFIX}*.lock"):
        if not _LOCK.fullmatch(path.name):
            continue
        with suppress(OSError), _open_lock(path) as lock:
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
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # another process may just have given it its name
            total += path.stat().st_size if path.is_file() else 0
    return total
