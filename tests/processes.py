"""Processes that a test has started: found and killed where it fails or takes too long."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")  # a second, in which /proc counts when a process started
STARTED_BY = "LOTUS_RAY_STARTED_BY"  # pid of the pytest process, in the environment of all below
os.environ[STARTED_BY] = str(os.getpid())


def uptime() -> float:
    """Return seconds since the machine was started; 0 where there is no /proc."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if PROC.exists() else 0.0


@contextlib.contextmanager
def killed_on_failure() -> Iterator[None]:
    """Kill the processes that were started within, where it ends with an error or too late."""
    begin = uptime()
    try:
        yield
    except pytest.skip.Exception:
        raise
    except BaseException:
        kill_started_since(begin)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    with killed_on_failure():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    with killed_on_failure():
        return (yield)


def kill_started_since(begin: float) -> list[int]:
    """Kill what this process and those below it have started since `begin`; return their ids."""
    processes = {int(path.name): found for path in PROC.glob("[0-9]*") if (found := _read(path))}
    late = [pid for pid, (_, start, *_) in processes.items() if start >= begin - 1 / TICK]
    ours = [pid for pid in late if _is_ours(pid, processes)]
    for pid in ours:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return ours


def _read(process: Path) -> tuple[int, float, str, str] | None:
    """Return a process's parent, start, command line and environment; None if it has ended."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        told = [(process / name).read_bytes().decode() for name in ("cmdline", "environ")]
    except (OSError, UnicodeDecodeError):
        return None
    return int(fields[1]), int(fields[19]) / TICK, told[0], told[1]


def _is_ours(pid: int, processes: dict[int, tuple[int, float, str, str]]) -> bool:
    """True if this process started it, directly or not; the parent may have ended since."""
    _, _, command, environment = processes[pid]
    if "resource_tracker" in command:  # ends with this process; would be missed with a warning
        return False
    if f"{STARTED_BY}={os.getpid()}\0" in environment:
        return True
    while pid in processes and pid != os.getpid():
        pid = processes[pid][0]
    return pid == os.getpid()
