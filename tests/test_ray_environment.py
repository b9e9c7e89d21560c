"""What the environment says of Ray, and how soon a command says what is wrong with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from lotus_ray.ray_environment import cluster_address, wrong_address

SESSION = """
from lotus_ray.cluster import session
from lotus_ray.errors import ClusterError
from lotus_ray.job_schema import Resources
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
