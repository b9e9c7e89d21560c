"""Space for decoded images on a node: how much, where, and how it is cleaned up.

Each command has its own folder in memory (/dev/shm) and its own folder on the local disk. Processes
that use them hold a lock. The system releases the lock when a process ends, even if it is killed.
So a folder whose lock is free is garbage, and the next command on the node removes it.
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
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lotus_ray.base.errors import DataError
from lotus_ray.base.folders import files_under
from lotus_ray.base.free_memory import available_memory, shared_memory_left
from lotus_ray.data.pixels.decode_log import DecodeLog

GIB = 1 << 30
IN_MEMORY = Path("/dev/shm")
_PREFIX = "lotus-ray-"
_LOCK = re.compile(rf"{_PREFIX}[0-9a-f]{{12}}-(memory|disk)\.lock")
_SPARE_DISK = GIB  # for the store, which is often on the same disk


@dataclass(frozen=True)
class CacheSpace:
    """How many bytes of pixels a command may keep on each node, and where.

    At most `memory_bytes` are kept in memory. More go to files on the local disk, in `scratch`, up
    to `disk_bytes`; None: as much as the disk has free.
    """

    memory_bytes: int = 8 * GIB
    disk_bytes: int | None = None
    scratch: str = field(default_factory=tempfile.gettempdir)
    session: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    @property
    def memory(self) -> Path:
        """The folder in memory; on the disk if the system has no /dev/shm."""
        return self._folder(IN_MEMORY if IN_MEMORY.is_dir() else Path(self.scratch), "memory")

    @property
    def disk(self) -> Path:
        """The folder on the disk."""
        return self._folder(Path(self.scratch), "disk")

    @property
    def decode_log(self) -> DecodeLog:
        """When the command decoded images on this node."""
        return DecodeLog(self.memory / ".decoded")

    def memory_left(self) -> int:
        """Return how many bytes may still go to the folder in memory.

        Ray's object store and half of the free memory stay free.
        """
        parent = self.memory.parent
        shared = shared_memory_left(_free_bytes(parent), parent)
        free = min(shared, available_memory() // 2)
        return max(min(self.memory_bytes - _bytes_in(self.memory), free), 0)

    def disk_left(self) -> int:
        """Return how many bytes may still go to the folder on the disk."""
        free = _free_bytes(Path(self.scratch)) - _SPARE_DISK
        limit = free if self.disk_bytes is None else self.disk_bytes - _bytes_in(self.disk)
        return max(min(limit, free), 0)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create and lock the folders on this node, after removing those of dead commands.

        Raises:
            DataError: the folders cannot be created, or are not this user's own.
        """
        folders = (self.memory, self.disk)
        held: list[IO[str]] = []
        try:
            with _system_errors(folders):
                for parent in {folder.parent for folder in folders}:
                    _sweep(parent)
                for folder in folders:
                    held.append(_shared_lock(folder))
                    folder.mkdir(mode=0o700, exist_ok=True)
                    if not _is_ours(folder.lstat(), stat.S_ISDIR):
                        raise FileExistsError(
                            0, "it exists and is no folder of this user", str(folder)
                        )
            yield
        finally:
            for lock in held:
                lock.close()

    def clear(self) -> None:
        """Remove the command's folders on this node."""
        for folder in (self.memory, self.disk):
            shutil.rmtree(folder, ignore_errors=True)
            _lock_of(folder).unlink(missing_ok=True)

    def _folder(self, parent: Path, kind: str) -> Path:
        return parent / f"{_PREFIX}{self.session}-{kind}"


Waiting = Callable[[], AbstractContextManager[object]]  # what is done while a process waits


@contextmanager
def exclusive_lock(folder: Path, waiting: Waiting = nullcontext) -> Iterator[None]:
    """Wait until no other process on this node holds the lock of the folder, then hold it.

    Args:
        folder: whose lock.
        waiting: returns a context that is open while this process waits.
    """
    with (folder / ".alone").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with waiting():
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def _system_errors(folders: tuple[Path, ...]) -> Iterator[None]:
    """Turn an OSError about the folders into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"decoded images cannot be stored: {error.strerror or error}",
            where=error.filename or str(folders[-1].parent),
            next_command="lotus-ray grid JOB.yaml --set resources.scratch=FOLDER",
        ) from error


def _is_ours(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(status.st_mode) and status.st_uid == os.getuid()


def _open_lock(path: Path) -> IO[str]:
    """Open a lock file; refuse a link, and a file of another user."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    lock = os.fdopen(os.open(path, flags, 0o600), "r+")
    if not _is_ours(os.fstat(lock.fileno()), stat.S_ISREG):
        lock.close()
        raise FileExistsError(0, "it is no file of this user", str(path))
    return lock


def _shared_lock(folder: Path) -> IO[str]:
    """Return a shared lock on a file that still exists. Many processes can hold it."""
    path = _lock_of(folder)
    while True:
        lock = _open_lock(path)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        lock.close()  # meanwhile another process removed the file as garbage


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


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in files_under(folder):
        with suppress(FileNotFoundError):  # another process may just have renamed it
            total += path.stat().st_size
    return total
