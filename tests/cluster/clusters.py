"""Ray clusters that tests start on this machine, with ports and folders of their own.

Nothing here asks for `ray stop`, which would end every Ray on the machine: a cluster's processes
are known by a mark in their environment and by its folder in their command lines.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MARK = "LOTUS_RAY_TEST_CLUSTER"
PATIENCE = 300  # seconds, on a machine that does other things beside


@dataclass(frozen=True)
class Head:
    """A head node, and the environment in which commands find it."""

    address: str
    folder: Path
    environment: dict[str, str]

    def ray(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Ray."""
        return self.run("ray", *arguments)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command that finds the cluster."""
        return subprocess.run(
            command,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command that finds the cluster, as `lotus-ray` in a submitted job does."""
        environment = {**self.environment, "RAY_ADDRESS": self.address}
        with log.open("wb") as stream:
            return subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)


@contextmanager
def head(*options: str, port: int | None = None, **environment: str) -> Iterator[Head]:
    """Start the head of a cluster by `ray start --head` with token authentication.

    Args:
        options: of `ray start`.
        port: where it is found; default any that is free.
        environment: what its processes find beside this process's environment.
    """
    port, dashboard = port or free_port(), free_port()
    with processes_of_a_cluster() as (folder, marked):
        marked |= {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
        command = [
            *("ray", "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address", "127.0.0.1", "--port", str(port)),
            *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
            *("--dashboard-agent-listen-port", str(free_port())),
            *("--ray-client-server-port", str(free_port())),
            *("--min-worker-port", "0", "--max-worker-port", "0"),
            *("--object-store-memory", str(150 << 20), "--temp-dir", str(folder / "ray")),
            *options,
        ]
        log = folder / "head.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                env=marked | environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        with ended(process):
            wait_until(
                lambda: answers(dashboard) and "--block" in log.read_text(), process, log=log
            )
            yield Head(f"127.0.0.1:{port}", folder, marked)


@contextmanager
def processes_of_a_cluster() -> Iterator[tuple[Path, dict[str, str]]]:
    """Give a folder and an environment; kill what was started with them in the end."""
    short = "/tmp"  # the path of a socket has 107 bytes at most
    with tempfile.TemporaryDirectory(prefix="lr-", dir=short, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        environment |= {
            MARK: name,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_TMPDIR": name,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        try:
            yield folder, environment
        finally:
            end_processes(name)


def end_processes(name: str) -> None:
    """Kill the processes of a cluster, known by its folder, and no others."""
    end = time.monotonic() + 60
    while left := processes(name):
        assert time.monotonic() < end, f"these processes do not end: {left}"
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process after the block, by force where it takes long."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def processes(name: str, words: str = "") -> list[int]:
    """Return the live processes whose environment or command line holds a cluster's folder.

    Args:
        name: the folder.
        words: what the command line has to hold as well.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            is_alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
            environment = (entry / "environ").read_bytes().decode(errors="replace")
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            if is_alive and name in environment + command and words in command.replace("\0", " "):
                found.append(int(entry.name))
    return found


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Return whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    true: Callable[[], object],
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
    patience: float = PATIENCE,
) -> None:
    """Wait for something while a process runs.

    Args:
        true: says whether it has come.
        process: must not end before.
        log: is shown where it does, or where nothing comes.
        patience: in seconds.
    """
    end = time.monotonic() + patience
    while not true():
        alive = process is None or process.poll() is None
        assert alive, f"it ended too early\n{log.read_text() if log else ''}"
        assert time.monotonic() < end, f"nothing happened\n{log.read_text() if log else ''}"
        time.sleep(0.1)
