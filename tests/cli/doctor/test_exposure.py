"""Which listeners are a danger: told from made-up ones, and from real ones."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lotus_ray.cli.doctor.exposure import (
    DEFAULTS,
    RayPort,
    asks_for_token,
    exposure,
    listeners,
    ray_ports,
)
from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING

DASHBOARD, GCS, CLIENT, AGENT = DEFAULTS


def judged(listening: list[tuple[str, int]], says: dict[str, bool | None]) -> tuple[str, str]:
    found = exposure(lambda: listening, lambda: DEFAULTS, lambda port, address: says[port.kind])
    return found.status, found.text


def test_loopback_is_no_danger() -> None:
    """Of IPv4, of IPv6, and of the one within the other; nobody is asked."""
    mine = [("127.0.0.1", 8265), ("::1", 6379), ("::ffff:127.0.0.1", 10001), ("0.0.0.0", 22)]
    assert judged(mine, {}) == (OK, "only this machine can reach Ray's ports")
    assert judged([("0.0.0.0", 22)], {}) == (OK, "no Ray listens here")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "::ffff:10.0.0.7"])
def test_a_dashboard_without_a_token_is_a_problem_on_any_other_address(address: str) -> None:
    status, text = judged([(address, 8265), ("127.0.0.1", 8265)], {"dashboard": False})
    assert status == PROBLEM
    assert text.endswith(f"anyone who can connect can run code here: dashboard {address}:8265")


def test_a_token_makes_it_fine_and_silence_a_warning() -> None:
    wide = [("0.0.0.0", 8265), ("0.0.0.0", 6379)]
    assert judged(wide, {"dashboard": True, "GCS": True})[0] == OK
    assert judged(wide, {"dashboard": True, "GCS": None})[0] == WARNING
    assert judged(wide, {"dashboard": True, "GCS": False}) == (
        PROBLEM,
        "no authentication, anyone who can connect can run code here: GCS 0.0.0.0:6379",
    )


@pytest.mark.parametrize(("token", "status"), [(True, OK), (False, PROBLEM), (None, WARNING)])
def test_a_client_server_is_as_open_as_its_ray(token: bool | None, status: str) -> None:
    wide = [("0.0.0.0", 10001), ("0.0.0.0", 6379)]
    assert judged(wide, {"client server": None, "GCS": token})[0] == status


def test_a_port_to_which_a_dashboard_may_have_moved_counts_only_if_one_is_there() -> None:
    moved = RayPort("dashboard", 8270, guessed=True)
    for says, status in ((None, OK), (False, PROBLEM)):
        found = exposure(lambda: [("0.0.0.0", 8270)], lambda: [moved], lambda port, at, s=says: s)
        assert found.status == status


class Answers(BaseHTTPRequestHandler):
    """What a dashboard says of how it knows who asks."""

    code, body, health = 200, b"", 404

    def do_GET(self) -> None:
        codes = {"/api/authentication_mode": self.code, "/api/local_raylet_healthz": self.health}
        self.send_response(codes.get(self.path, 404))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def served(address: str, code: int, body: bytes, health: int = 404) -> Iterator[int]:
    """Serve on a free port; give the port."""
    handler = type("Handler", (Answers,), {"code": code, "body": body, "health": health})
    with HTTPServer((address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("code", "body", "status"),
    [
        (200, b'{"authentication_mode": "disabled"}', PROBLEM),
        (200, b'{"authentication_mode": "token"}', OK),
        (401, b"", OK),
        (404, b"", WARNING),
        (200, b"[]", WARNING),
        (200, b"<html>", WARNING),
    ],
)
def test_a_real_listener_is_found_and_asked(code: int, body: bytes, status: str) -> None:
    with served("0.0.0.0", code, body) as port:
        assert ("0.0.0.0", port) in listeners()
        assert exposure(ports=lambda: [RayPort("dashboard", port)]).status == status
    with served("127.0.0.1", code, body) as port:
        found = exposure(ports=lambda: [RayPort("dashboard", port)])
        assert found.text == "only this machine can reach Ray's ports"


@pytest.mark.parametrize(
    ("asked", "health", "status"),
    [(401, 200, OK), (403, 200, OK), (404, 200, PROBLEM), (404, 404, WARNING), (200, 200, WARNING)],
)
def test_an_agent_of_the_dashboard_is_asked(asked: int, health: int, status: str) -> None:
    """Without a token it says that it has no such page, and that its raylet is well."""
    with served("0.0.0.0", asked, b"", health) as port:
        found = exposure(ports=lambda: [RayPort("dashboard agent", port)])
    assert found.status == status
    assert f"dashboard agent 0.0.0.0:{port}" in found.text


def test_a_real_listener_that_says_nothing_is_a_warning() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = RayPort("dashboard", server.getsockname()[1])
        assert exposure(ports=lambda: [port]).status == WARNING
        assert asks_for_token(RayPort("client server", port.port), "0.0.0.0") is None


def test_ipv6_listeners_are_read(tmp_path: Path) -> None:
    """As Linux writes them: ::1 port 8265, ::ffff:127.0.0.1 port 80, and one that is connected."""
    (tmp_path / "net").mkdir()
    one = "00000000000000000000000001000000"
    mapped = "0000000000000000FFFF00000100007F"
    rows = [f"0: {one}:2049 {one}:0 0A", f"1: {mapped}:0050 {one}:0 0A", f"2: {one}:01BB {one}:1 1"]
    (tmp_path / "net" / "tcp6").write_text("header\n" + "\n".join(rows) + "\n")
    assert listeners(tmp_path) == {("::1", 8265), ("127.0.0.1", 80)}


def test_the_ports_of_a_ray_that_runs_here_are_known(tmp_path: Path) -> None:
    """From its processes: a dashboard that may move by two ports, its GCS, a client server."""
    commands = {
        "11": "python ray/dashboard/dashboard.py --host=0.0.0.0 --port=9000 --port-retries=2 "
        "--gcs-address=10.0.0.1:7000 --x=1",
        "12": "python -m ray.util.client.server --address=10.0.0.1:7000 --port=9100",
        "14": "raylet --dashboard_agent_command=python ray/dashboard/agent.py --listen-port=9200",
        "13": "python other.py --port=1234",
    }
    for pid, command in commands.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(command.replace(" ", "\0").encode())
    assert ray_ports(tmp_path) - set(DEFAULTS) == {
        RayPort("dashboard", 9000),
        RayPort("dashboard", 9001, guessed=True),
        RayPort("dashboard", 9002, guessed=True),
        RayPort("GCS", 7000),
        RayPort("client server", 9100),
        RayPort("dashboard agent", 9200),
    }
    assert [port.port for port in DEFAULTS] == [8265, 6379, 10001, 52365]
