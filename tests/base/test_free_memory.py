"""Free memory, read from folders that stand in for /proc, /sys/fs/cgroup and /dev/shm."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lotus_ray.base.free_memory import (
    SPARE_SHARED,
    UNLIMITED,
    available_memory,
    shared_memory_left,
    unallocated_store,
)

MIB = 1 << 20
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Processes of a machine with 1000 KiB to spare."""
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text("MemTotal: 9999 kB\nMemFree: 1 kB\nMemAvailable: 1000 kB\n")
    return folder


def group(folder: Path, names: tuple[str, ...], limit: object, used: int, cached: int = 0) -> None:
    """Write the files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\ninactive_anon 77\n")


def test_without_a_control_group_the_machine_counts(proc: Path, tmp_path: Path) -> None:
    assert available_memory(proc, tmp_path / "none") == 1000 * 1024
    (proc / "meminfo").unlink()
    assert available_memory(proc, tmp_path / "none") == UNLIMITED


@pytest.mark.parametrize(
    ("lines", "root", "names"),
    [
        ("0::/pod/box\n", ".", V2),
        ("9:name=systemd:/x\n4:cpu,memory:/pod/box\n3:cpuset:/\n", "memory", V1),
    ],
)
def test_the_tightest_group_counts(
    proc: Path, tmp_path: Path, lines: str, root: str, names: tuple[str, ...]
) -> None:
    """The limit less the use, in which file pages that can be dropped are no use."""
    (proc / "self" / "cgroup").write_text(lines)
    top = tmp_path / "cgroup" / root
    group(top / "pod" / "box", names, 500_000, 300_000, cached=50_000)
    assert available_memory(proc, tmp_path / "cgroup") == 250_000
    group(top / "pod", names, 400_000, 390_000)
    assert available_memory(proc, tmp_path / "cgroup") == 10_000
    group(top / "pod", names, 400_000, 410_000)
    assert available_memory(proc, tmp_path / "cgroup") == 0


def test_a_container_that_sees_only_its_own_group_reads_that(proc: Path, tmp_path: Path) -> None:
    """The path is the host's; what is mounted is the container's group."""
    (proc / "self" / "cgroup").write_text("4:memory:/docker/ab\n")
    group(tmp_path / "cgroup" / "memory", V1, 9000, 1000)
    assert available_memory(proc, tmp_path / "cgroup") == 8000


@pytest.mark.parametrize(
    ("names", "no_limit"), [(V2, "max"), (V1, 9223372036854771712), (V1, "torn")]
)
def test_a_group_without_a_limit_is_none(
    proc: Path, tmp_path: Path, names: tuple[str, ...], no_limit: object
) -> None:
    root = "memory" if names == V1 else "."
    (proc / "self" / "cgroup").write_text("4:memory:/\n" if names == V1 else "0::/\n")
    group(tmp_path / "cgroup" / root, names, no_limit, 5)
    assert available_memory(proc, tmp_path / "cgroup") == 1000 * 1024


def test_a_store_is_counted_once_and_only_what_it_has_not_taken(proc: Path, tmp_path: Path) -> None:
    """Two processes hold a store of 8 MiB of which 3 are written; other files do not count."""
    shared = tmp_path / "shm"
    shared.mkdir()
    store = shared / "plasmaA1"
    with store.open("wb") as file:
        file.truncate(8 * MIB)
        file.write(os.urandom(3 * MIB))
    with (shared / "sem.other").open("wb") as file:
        file.truncate(100 * MIB)
    with (tmp_path / "plasmaB2").open("wb") as file:  # a store on the disk
        file.truncate(100 * MIB)
    for number, target in enumerate([store, store, shared / "sem.other", tmp_path / "plasmaB2"]):
        fds = proc / str(number + 10) / "fd"
        fds.mkdir(parents=True)
        (fds / "3").symlink_to(target)
    (proc / "10" / "fd" / "4").symlink_to(shared / "plasmaGone")
    assert unallocated_store(shared, proc) == 5 * MIB
    assert shared_memory_left(SPARE_SHARED + 7 * MIB, shared, proc) == 2 * MIB
    assert shared_memory_left(SPARE_SHARED + 4 * MIB, shared, proc) == 0


def test_the_store_of_another_file_system_does_not_count(proc: Path, tmp_path: Path) -> None:
    """A container has a /dev/shm of its own, whose path is the same."""
    fds = proc / "12" / "fd"
    fds.mkdir(parents=True)
    with (tmp_path / "plasmaA1").open("wb") as file:
        file.truncate(MIB)
    (fds / "3").symlink_to(tmp_path / "plasmaA1")
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as other:
        if Path(other.name).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("temporary files are in /dev/shm")
        other.truncate(100 * MIB)
        (tmp_path / "plasmaB2").symlink_to(other.name)
        (fds / "4").symlink_to(tmp_path / "plasmaB2")
        assert unallocated_store(tmp_path, proc) == MIB


def test_an_open_file_without_a_name_is_seen(tmp_path: Path) -> None:
    """As Ray holds its store: this process stands in for Ray's."""
    with (tmp_path / "plasmaX").open("wb") as file:
        file.truncate(6 * MIB)
        (tmp_path / "plasmaX").unlink()
        assert unallocated_store(tmp_path) == 6 * MIB
    assert unallocated_store(tmp_path) == 0


def test_processes_may_end_while_their_files_are_listed(
    proc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of one is gone when it is opened."""
    for number in (10, 11):
        (proc / str(number) / "fd").mkdir(parents=True)
    (proc / "11" / "fd" / "3").symlink_to(tmp_path / "plasmaA1")
    with (tmp_path / "plasmaA1").open("wb") as file:
        file.truncate(MIB)
    for name in ("scandir", "listdir"):
        honest = getattr(os, name)

        def listed(path: object, honest: Callable[..., object] = honest) -> object:
            if Path(str(path)) == proc / "10" / "fd":
                raise FileNotFoundError(path)
            return honest(path)

        monkeypatch.setattr(os, name, listed)
    assert unallocated_store(tmp_path, proc) == MIB
