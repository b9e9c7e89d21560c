"""Check whether a Ray on this machine accepts commands from other machines without a token."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from lotus_ray.cli.doctor.ray_address import wants_token

REPLY_SECONDS = 2
_LISTENING = "0A"
_NEXT = "ray stop && RAY_AUTH_MODE=token ray start --head --dashboard-host=127.0.0.1"


@dataclass(frozen=True)
class RayPort:
    """A port of Ray: dashboard, control service (GCS), client server, or a node's dashboard agent.

    A dashboard agent accepts jobs, like the dashboard.
    """

    kind: str
    port: int
    guessed: bool = False  # a dashboard moves there if its own port is taken


DEFAULTS = (
    RayPort("dashboard", 8265),
    RayPort("GCS", 6379),
    RayPort("client server", 10001),
    RayPort("dashboard agent", 52365),
)
_RETRIES = re.compile(r"--port-retries=(\d+)")
_COMMANDS = (  # of Ray's processes: kind, program, and the option that holds the port
    ("dashboard", "dashboard/dashboard.py", re.compile(r"--port=(\d+)")),
    ("GCS", "dashboard/dashboard.py", re.compile(r"--gcs-address=\S*?:(\d+)(?!\S)")),
    ("dashboard agent", "dashboard/agent.py", re.compile(r"--listen-port=(\d+)")),  # and a raylet's
    ("client server", "ray.util.client.server", re.compile(r"--port=(\d+)")),
)
Listener = tuple[str, int]  # address, port
AsksForToken = Callable[[RayPort, str], bool | None]


def listeners(proc: Path = Path("/proc")) -> set[Listener]:
    """Return the addresses and ports on which processes of this machine listen, IPv4 and IPv6."""
    listening = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING:
                address, port = fields[1].split(":")
                listening.add((_address(address), int(port, 16)))
    return listening


def ray_ports(proc: Path = Path("/proc")) -> set[RayPort]:
    """Return the ports that Ray uses by default, and those of the Ray processes here."""
    ports = set(DEFAULTS)
    for file in proc.glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        for kind, program, port in _COMMANDS:
            if program in command and (option := port.search(command)):
                ports.add(RayPort(kind, int(option[1])))
                retries = _RETRIES.search(command) if kind == "dashboard" else None
                for more in range(1, int(retries[1]) + 1 if retries else 0):
                    ports.add(RayPort(kind, int(option[1]) + more, guessed=True))
    return ports


def asks_for_token(port: RayPort, address: str) -> bool | None:
    """Return True if a port demands a token; None if that is unknown, or the port is not Ray's."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address, address)
    if port.kind == "GCS":
        return wants_token(f"{host}:{port.port}", os.environ)
    if port.kind == "client server":
        return None
    server = f"http://{host}:{port.port}"
    code, body = _get(f"{server}/api/authentication_mode")
    if code in (401, 403):
        return True
    if port.kind == "dashboard agent":  # it has no such page, and shows its health to anyone
        is_agent = code == 404 and _get(f"{server}/api/local_raylet_healthz")[0] == 200
        return False if is_agent else None
    try:
        return bool(json.loads(body)["authentication_mode"] != "disabled")
    except (ValueError, KeyError, TypeError):
        return None


def _get(url: str) -> tuple[int, bytes]:
    """Return the status and the beginning of a page; 0 if nothing there speaks HTTP."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=REPLY_SECONDS) as reply:
            return reply.status, reply.read(1000)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, b""
    except (OSError, ValueError, HTTPException):
        return 0, b""


def exposure(
    listening: Callable[[], Iterable[Listener]] = listeners,
    ports: Callable[[], Iterable[RayPort]] = ray_ports,
    asks: AsksForToken = asks_for_token,
) -> Finding:
    """Report which of Ray's ports other machines can reach, and whether they demand a token.

    Args:
        listening: returns the addresses and ports of this machine.
        ports: returns the ports of Ray.
        asks: returns True if a port demands a token.
    """
    by_port: dict[int, set[str]] = {}
    for address, port in listening():
        by_port.setdefault(port, set()).add(address)
    all_ports = sorted(set(ports()), key=lambda port: (port.kind, port.port))
    here = [port for port in all_ports if port.port in by_port]
    exposed = {
        port: sorted(addresses)[0]
        for port in here
        if (addresses := {a for a in by_port[port.port] if not _is_loopback(a)})
    }
    if not exposed:
        text = "only this machine can reach Ray's ports" if here else "no Ray listens here"
        return Finding("exposure", OK, text)
    answers = {port: asks(port, address) for port, address in exposed.items()}
    answers = {p: answer for p, answer in answers.items() if answer is not None or not p.guessed}
    # A client server demands a token if the GCS of its Ray does.
    of_gcs = {answer for port, answer in answers.items() if port.kind == "GCS"}
    if len(of_gcs) == 1:
        answers |= {p: next(iter(of_gcs)) for p in answers if p.kind == "client server"}
    return _judged(exposed, answers)


def _judged(exposed: dict[RayPort, str], answers: dict[RayPort, bool | None]) -> Finding:
    """Report exposed ports. Those without a token come first, then those that are unknown."""

    def named(answer: bool | None) -> str:
        ports = [port for port, wanted in answers.items() if wanted is answer]
        return ", ".join(f"{port.kind} {exposed[port]}:{port.port}" for port in ports)

    if named(False):
        text = f"no authentication, anyone who can connect can run code here: {named(False)}"
        return Finding("exposure", PROBLEM, text, _NEXT)
    if named(None):
        text = f"open to other machines, and it is unknown if they need a token: {named(None)}"
        return Finding("exposure", WARNING, text, "ss -ltnp")
    return Finding("exposure", OK, f"open to other machines, with a token: {named(True)}")


def _address(text: str) -> str:
    """Read an address as /proc/net/tcp writes it: 4-byte words in the machine's byte order."""
    words = [bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8)]
    return str(_unmapped(b"".join(words)))


def _is_loopback(address: str) -> bool:
    return _unmapped(address).is_loopback


def _unmapped(address: str | bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address in a mapped IPv6 address, or the address itself."""
    parsed = ipaddress.ip_address(address)
    return getattr(parsed, "ipv4_mapped", None) or parsed
