"""How much memory this process may still fill: its control groups, and /dev/shm beside Ray.

A full control group is killed, and a full /dev/shm ends every process that writes there, with
SIGBUS. The machine's own figures show neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

UNLIMITED = 1 << 60  # more than any machine has: no limit is known
SPARE_SHARED = 1 << 30  # of /dev/shm, for NCCL, torch's workers and others
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_STORE = "plasma"  # how Ray names the file of its object store; it has no name after the start


def available_memory(proc: Path | None = None, cgroups: Path | None = None) -> int:
    """Return how many bytes of memory processes may still take here.

    That is the machine's available memory, or what the tightest control group around this process
    leaves, if it is less. File pages that the system can drop count as free.

    Args:
        proc: the folder of processes; default /proc.
        cgroups: where control groups are mounted; default /sys/fs/cgroup.
    """
    proc, cgroups = proc or PROC, cgroups or CGROUPS
    return min([_machine_memory(proc), *_left_in_groups(proc, cgroups)])


def shared_memory_left(free: int, folder: Path, proc: Path | None = None) -> int:
    """Return how many bytes may go to a folder in memory without harm to Ray's object store.

    Ray reserves no pages: it takes them as objects come, and is killed where none is left.

    Args:
        free: bytes that the folder's file system has free.
        folder: its root, such as /dev/shm.
        proc: the folder of processes; default /proc.

    Returns:
        Free bytes, less what the object stores here have not yet taken, less `SPARE_SHARED`.
    """
    return max(free - unallocated_store(folder, proc) - SPARE_SHARED, 0)


def unallocated_store(folder: Path, proc: Path | None = None) -> int:
    """Return the bytes that Ray's object stores in a folder may still take.

    The file of a store is as long as the store may grow. Only a process that holds it open shows
    it: Ray removes its name. A process in a container may have another file system at this path.
    """
    stores: dict[int, int] = {}
    with suppress(OSError):
        device = folder.stat().st_dev
        for link in _stores(proc or PROC, folder):
            with suppress(OSError):  # it was closed
                status = link.stat()
                if status.st_dev == device:
                    stores[status.st_ino] = status.st_size - status.st_blocks * 512
    return sum(max(left, 0) for left in stores.values())


def _stores(proc: Path, folder: Path) -> Iterator[Path]:
    """Yield the links to object stores of a folder that processes hold open."""
    for link in _open_files(proc):
        with suppress(OSError):  # it was closed
            if str(link.readlink()).startswith(f"{folder}/{_STORE}"):
                yield link


def _open_files(proc: Path) -> Iterator[Path]:
    """Yield the links to what each process holds open."""
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):  # another user's process, or one that ended
            yield from list((process / "fd").iterdir())


def _machine_memory(proc: Path) -> int:
    with suppress(OSError, ValueError):
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) * 1024
    return UNLIMITED


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield what each control group around this process leaves, of version 1 and 2."""
    with suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                files = cgroups, ("memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):
                files = (
                    cgroups / "memory",
                    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
                )
            else:
                continue
            root, names = files
            inner = root / path.lstrip("/")  # in a container it may not be there, but its root is
            for group in (inner, *inner.parents):
                if group.is_relative_to(root):
                    yield _left_in_group(group, *names)


def _left_in_group(group: Path, limit_file: str, use_file: str, droppable: str) -> int:
    """Return the limit of a control group less its use; `UNLIMITED` if it has none."""
    with suppress(OSError, ValueError):  # "max" is no number
        limit = int((group / limit_file).read_text())
        used = int((group / use_file).read_text())
        if limit < UNLIMITED:
            return max(limit - used + _statistic(group, droppable), 0)
    return UNLIMITED


def _statistic(group: Path, name: str) -> int:
    with suppress(OSError):
        for line in (group / "memory.stat").read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0
