"""What a cluster can answer, made up; and once a real one."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from lotus_ray.doctor import ray_address
from lotus_ray.doctor.finding import OK, PROBLEM, WARNING, Finding
from lotus_ray.doctor.ray_address import probe, reachability, wants_token

NODES = [
    {"address": "10.0.0.1", "resources": {"memory": 1e9}},
    {"address": "10.0.0.2", "resources": {"CPU": 8.0, "GPU": 1.0}},
]
FINE = {"ray": "2.60.0", "ours": "2.60.0", "python": platform.python_version(), "nodes": NODES}
DENIED = {"error": "authentication", "message": "the token is wrong"}


def found(answer: dict[str, Any], stranger: dict[str, Any]) -> Finding:
    """Examine a cluster that says `answer` to us, and `stranger` to who has no token."""

    def ask(address: str, environment: Mapping[str, str]) -> dict[str, Any]:
        assert environment["HOME"] == "/home/me"
        return stranger if environment["RAY_AUTH_MODE"] == "disabled" else answer

    with socket.create_server(("127.0.0.1", 0)) as server:
        environment = {
            "RAY_ADDRESS": f"127.0.0.1:{server.getsockname()[1]}",
            "RAY_AUTH_MODE": "token",
            "HOME": "/home/me",
        }
        return reachability(environment, ask)


def test_a_cluster_that_wants_our_token() -> None:
    fine = found(FINE, DENIED)
    assert fine.status == OK
    assert fine.text.endswith(
        "ray 2.60.0, 2 nodes alive: 10.0.0.1 (no CPU); 10.0.0.2 (8 CPUs, 1 GPUs); it wants a token"
    )


def test_a_cluster_that_lets_anyone_in_is_a_warning() -> None:
    assert found(FINE, FINE).status == WARNING
    silent = {"error": "unreachable", "message": "no answer"}
    assert found(FINE, silent).status == OK


@pytest.mark.parametrize(
    ("answer", "words", "command"),
    [
        (DENIED, "wants another token: the token is wrong", "RAY_AUTH_TOKEN_PATH"),
        (FINE | {"ray": "2.50.0"}, "here is ray 2.60.0", "pip install 'ray[default]==2.50.0'"),
        (FINE | {"python": "3.9.1"}, "it runs Python 3.9.1", "uv venv --python 3.9.1"),
        ({"error": "unreachable", "message": "no GCS"}, "no Ray answers", "ray status --address"),
    ],
)
def test_what_keeps_a_grid_from_joining_is_a_problem(
    answer: dict[str, Any], words: str, command: str
) -> None:
    problem = found(answer, DENIED)
    assert (problem.status, problem.exit_code) == (PROBLEM, 6)
    assert words in problem.text
    assert command in problem.next_command


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ray://head:10001", "is not for this command"),
        ("http://user:secret@head:8265", "is not for this command"),
        ("nonsense", "it is not host:port"),
        ("127.0.0.1:1", "Connection refused"),
    ],
)
def test_an_address_that_no_grid_can_join(address: str, words: str) -> None:
    problem = reachability({"RAY_ADDRESS": address})
    assert problem.status == PROBLEM
    assert words in problem.text
    assert "secret" not in str(problem)


def test_a_cluster_that_never_answers_is_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first takes the connection and says nothing; the second is a process that breaks."""
    monkeypatch.setattr(ray_address, "PROBE_SECONDS", 1)
    answer = probe("127.0.0.1:1", {})
    assert answer == {"error": "unreachable", "message": "no answer in 1 s"}
    monkeypatch.setattr(ray_address, "PROBE_SECONDS", 60)
    monkeypatch.setattr(ray_address.sys, "executable", "/bin/false")
    assert probe("127.0.0.1:1", {}) == {"error": "unreachable", "message": "no answer"}
    assert wants_token("127.0.0.1:1", {}) is None
