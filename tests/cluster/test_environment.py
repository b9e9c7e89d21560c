"""What the environment says of Ray, and how soon a command says what is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lotus_ray.cluster.environment import ANOTHER_TOKEN, cluster_address, wrong_address, wrong_token

SESSION = """
from lotus_ray.cluster import session
from lotus_ray.base.errors import ClusterError
from lotus_ray.job.schema.resources import Resources
for start in (lambda: session.check_this_machine(Resources()), session.session().__enter__):
    try:
        start()
    except ClusterError as error:
        print(error.exit_code, error.what)
        print(error.next_command)
"""


def started(**environment: str) -> subprocess.CompletedProcess[str]:
    """Look at this machine and start a session, each of which is to fail."""
    left = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_AUTH", "RAY_ADDRESS"))}
    return subprocess.run(
        [sys.executable, "-c", SESSION],
        env=left | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("address", ["", "local"])
def test_a_ray_of_this_command_is_no_cluster_to_join(address: str) -> None:
    assert cluster_address({"RAY_ADDRESS": address}) == cluster_address({}) == ""
    assert wrong_address({"RAY_ADDRESS": address}) is None


@pytest.mark.parametrize(
    ("address", "words"),
    [("head", "it is not host:port"), ("127.0.0.1:1", "Connection refused")],
)
def test_what_cannot_be_connected_to_is_told(address: str, words: str) -> None:
    wrong = wrong_address({"RAY_ADDRESS": address})
    assert wrong is not None
    assert wrong.what == f"nothing answers at RAY_ADDRESS={address}: {words}"
    assert wrong_address({"RAY_ADDRESS": "auto"}) is None


def test_no_command_waits_for_a_cluster_that_is_not_there() -> None:
    """Ray alone tries for four minutes. Most of what this takes is the import of Ray."""
    began = time.monotonic()
    ended = started(RAY_ADDRESS="127.0.0.1:1")
    assert time.monotonic() - began < 60
    assert (
        ended.stdout.splitlines()
        == [
            "6 nothing answers at RAY_ADDRESS=127.0.0.1:1: Connection refused",
            "unset RAY_ADDRESS   (or ray up cluster.yaml)",
        ]
        * 2
    )
    assert ended.stderr == ""


def test_ray_client_is_refused_and_its_password_not_repeated() -> None:
    ended = started(RAY_ADDRESS="ray://me:secret@head:10001")
    assert (
        ended.stdout.splitlines()
        == [
            "6 RAY_ADDRESS=ray://… is not for this command, which runs inside the cluster",
            "ray job submit --address http://head:8265 -- lotus-ray doctor",
        ]
        * 2
    )
    assert "secret" not in ended.stdout + ended.stderr


def test_a_token_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Unless the token is in the environment, or the cluster is said to want none."""
    (tmp_path / "empty").write_text("\n")
    for name, why in (("none", "No such file or directory"), ("empty", "it is empty")):
        told = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / name)}
        wrong = wrong_token(told)
        assert wrong is not None
        assert wrong.what == f"the token file cannot be read: {why}"
        assert wrong.next_command.startswith("unset RAY_AUTH_TOKEN_PATH")
        joining = told | {"RAY_ADDRESS": "head:6379"}
        assert (wrong := wrong_token(joining)) is not None
        assert wrong.next_command == ANOTHER_TOKEN
        assert wrong_token(told | {"RAY_AUTH_TOKEN": "token"}) is None
        assert wrong_token(told | {"RAY_AUTH_MODE": "disabled"}) is not None  # Ray starts here
        assert wrong_token(joining | {"RAY_AUTH_MODE": "disabled"}) is None


def test_a_session_without_its_token_file_ends_like_any_error(tmp_path: Path) -> None:
    ended = started(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(tmp_path / "none"))
    assert ended.stdout.splitlines()[0] == (
        "6 the token file cannot be read: No such file or directory"
    )
    assert ended.stderr == ""
