"""The doctor beside a Ray that runs, and a trial for which that Ray never has a place."""

from __future__ import annotations

import os
import sys

import pytest

from lotus_ray.cli.doctor import exposure
from lotus_ray.cli.doctor.exposure import RayPort, asks_for_token
from lotus_ray.cli.doctor.finding import OK, PROBLEM
from lotus_ray.cli.doctor.ray_address import reachability, wants_token
from lotus_ray.cluster.environment import ANOTHER_TOKEN
from tests.cluster.clusters import head

pytestmark = [pytest.mark.ray, pytest.mark.cluster]
REFUSED = """
from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster import waiting
from lotus_ray.cluster.capacity import concurrent_trials
from lotus_ray.cluster.session import session
from lotus_ray.job.schema.resources import Resources

waiting.NO_AUTOSCALER_SECONDS = 5
with session():
    print(concurrent_trials(Resources(), print))
    try:
        concurrent_trials(Resources(gpus_per_worker=1), print)
    except ClusterError as error:
        print("refused:", error.what)
"""
OTHER_TOKEN = """
from lotus_ray.cluster.session import session
from lotus_ray.base.errors import ClusterError

try:
    session().__enter__()
except ClusterError as error:
    print(error.exit_code, error.what)
    print(error.next_command)
"""


def test_a_ray_that_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with head("--num-cpus", "1") as ray:
        ours = {**ray.environment, "RAY_ADDRESS": ray.address}
        fine = reachability(ours)
        assert fine.status == OK, fine
        assert "1 nodes alive" in fine.text
        assert fine.text.endswith("it demands a token")
        assert wants_token(ray.address, ours)

        other = reachability({**ours, "RAY_AUTH_TOKEN": "another"})
        assert (other.status, other.exit_code) == (PROBLEM, 6)
        assert "demands another token" in other.text

        dashboard = int(ray.environment["RAY_API_SERVER_ADDRESS"].rsplit(":", 1)[1])
        gcs = int(ray.address.rsplit(":", 1)[1])
        mine = {RayPort("dashboard", dashboard), RayPort("GCS", gcs)}
        assert mine <= exposure.ray_ports()
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.setitem(os.environ, name, ray.environment[name])
        assert asks_for_token(RayPort("dashboard", dashboard), "127.0.0.1")
        found = exposure.exposure(ports=lambda: mine)
        assert found.status == OK, found

        told = ray.run(
            *("env", f"RAY_ADDRESS={ray.address}", "RAY_AUTH_TOKEN=another"),
            *(sys.executable, "-c", OTHER_TOKEN),
        )
        assert told.stdout.splitlines() == [
            f"6 the cluster at RAY_ADDRESS={ray.address} demands another token: "
            "InvalidAuthToken: Authentication token is missing or incorrect",
            ANOTHER_TOKEN,
        ], told.stderr

        told = ray.run("env", f"RAY_ADDRESS={ray.address}", sys.executable, "-c", REFUSED)
        assert told.stdout.splitlines() == [
            "1",
            "waiting for nodes for the first place: a worker needs 1 CPU, 1 GPU",
            "refused: a trial does not fit on this cluster, and in 0 min nobody added one: "
            "a worker needs 1 CPU, 1 GPU",
        ], told.stderr
