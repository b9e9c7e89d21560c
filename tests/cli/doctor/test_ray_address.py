"""What a cluster can answer, made up; and once a real one."""

from __future__ import annotations

import platform
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from lotus_ray.cli.doctor import ray_address
from lotus_ray.cli.doctor.finding import OK, PROBLEM, WARNING, Finding
from lotus_ray.cli.doctor.ray_address import cause, judge_cluster, probe, reachability, wants_token

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
        "ray 2.60.0, 2 nodes alive: 10.0.0.1 (no CPU); 10.0.0.2 (8 CPUs, 1 GPUs); "
        "it demands a token"
    )


def test_a_cluster_that_lets_anyone_in_is_a_warning_on_loopback_and_else_a_problem() -> None:
    assert found(FINE, FINE).status == WARNING
    open_to_others = judge_cluster("10.0.0.1:6379", FINE, False)
    assert (open_to_others.status, open_to_others.exit_code) == (PROBLEM, 6)
    assert judge_cluster("10.0.0.1:6379", FINE, True).status == OK
    silent = {"error": "unreachable", "message": "no answer"}
    assert found(FINE, silent).status == OK


@pytest.mark.parametrize(
    ("answer", "words", "command"),
    [
        (DENIED, "demands another token: the token is wrong", "RAY_AUTH_TOKEN_PATH"),
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
    monkeypatch.setattr("lotus_ray.cli.doctor.ray_address.sys.executable", "/bin/false")
    assert probe("127.0.0.1:1", {}) == {"error": "unreachable", "message": "no answer"}
    assert wants_token("127.0.0.1:1", {}) is None


def test_what_a_process_of_ray_died_of_is_the_line_that_says_it() -> None:
    """Behind a warning and before a stack, as Ray's C++ writes it; of Python, at the end."""
    aborted = """
[2026-11-24 15:12:31,355 W 15094 15094] rpc_client.h:638: Failed to connect within 5 seconds.
[2026-11-24 15:12:31,498 C 15094 15094] authentication_token_loader.cc:111:  An unexpected system \
state has occurred. You have likely discovered a bug in Ray. Please report it. Check failed: \
!result.hasError() RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty: /none
*** StackTrace Information ***
/site-packages/ray/_raylet.so(+0x1812b9a) [0x7fbd5c812b9a] ray::operator<<()
"""
    said = "RAY_AUTH_TOKEN_PATH is set but file cannot be opened or is empty: /none"
    assert cause(aborted) == said
    assert cause("Traceback (most recent call last):\n  File x\nImportError: ray\n") == (
        "ImportError: ray"
    )
    assert cause(aborted.splitlines()[1]) == cause("") == ""


def test_a_token_file_that_is_not_there_is_a_problem_before_anybody_is_asked() -> None:
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/none"}
    found = reachability(environment, lambda address, environment: pytest.fail("asked"))
    assert (found.status, found.exit_code) == (PROBLEM, 6)
    assert found.text == (
        "the token file cannot be read: No such file or directory (RAY_AUTH_TOKEN_PATH=/none)"
    )
    assert found.next_command.startswith("unset RAY_AUTH_TOKEN_PATH")


@pytest.mark.parametrize(
    ("address", "alone"),
    [
        ("127.0.0.1:6379", True),
        ("localhost:6379", True),
        ("[::1]:6379", True),
        ("10.0.0.1:6379", False),
        ("head:6379", False),
        ("auto", False),
    ],
)
def test_loopback_is_known_by_its_address(address: str, alone: bool) -> None:
    assert ray_address.is_loopback(address) == alone
