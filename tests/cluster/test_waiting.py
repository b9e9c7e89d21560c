"""What is said of nodes that are missing, and what a submitted job may set: no Ray starts here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from lotus_ray import cluster
from lotus_ray.base.errors import StoreError
from lotus_ray.cluster import nodes
from lotus_ray.grid.run import check_store_stays
from lotus_ray.job.schema.resources import Resources
from lotus_ray.store.results import Store


def wait_for(lines: list[str], count: int) -> None:
    end = time.monotonic() + 30
    while len(lines) < count:
        assert time.monotonic() < end, lines
        time.sleep(0.01)


def test_it_is_said_how_many_trials_wait_whenever_that_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trials of two workers with three CPUs: no node, then one with six CPUs, then two of them.

    A trial that is finished waits for nothing any more: three are left, then one.
    """
    there: list[dict[str, object]] = []
    monkeypatch.setattr(nodes, "ray", SimpleNamespace(nodes=lambda: list(there)))
    monkeypatch.setattr(nodes, "POLL_SECONDS", 0.01)
    left, lines = [3], list[str]()
    need = Resources(workers=2, cpus_per_worker=3)
    node = {"Alive": True, "Resources": {"CPU": 6.0}}
    with nodes.say_what_is_missing(2, need, lines.append, lambda: left[0]):
        wait_for(lines, 1)
        there.append(node)
        wait_for(lines, 2)
        there.append(node)
        wait_for(lines, 3)
        there.remove(node)
        wait_for(lines, 4)
        left[0] = 1
        wait_for(lines, 5)
        time.sleep(0.1)
    each = "(each of 2 workers needs 3 CPUs, 0 GPUs)"
    assert lines == [
        f"waiting for nodes: 0 of 2 trials have theirs {each}",
        f"waiting for nodes: 1 of 2 trials have theirs {each}",
        "all trials have their nodes",
        f"waiting for nodes: 1 of 2 trials have theirs {each}",
        "all trials have their nodes",
    ]


@pytest.mark.parametrize("runtime_env", [{}, {"env_vars": None}, None])
def test_what_workers_find_is_ours_where_the_job_says_nothing(
    runtime_env: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert not cluster.in_submitted_job()
    assert cluster.environment_of_workers() == cluster.ENVIRONMENT
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": runtime_env}))
    assert cluster.in_submitted_job()
    assert cluster.environment_of_workers() == cluster.ENVIRONMENT


def test_what_the_job_sets_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray refuses a variable that both set, whatever the values."""
    chosen = {"env_vars": {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2", "OTHER": "1"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": chosen}))
    ours = dict(cluster.ENVIRONMENT)
    del ours["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"]
    assert cluster.environment_of_workers() == ours


def test_a_store_that_would_go_with_the_job_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray runs a job with a working directory in a copy of it, and deletes that afterwards."""
    uploaded = {"runtime_env": {"working_dir": "gcs://_ray_pkg_1.zip"}}
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    check_store_stays(Store.open("runs"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(uploaded))
    check_store_stays(Store.open("../runs"))
    check_store_stays(Store.open(str(tmp_path / "runs")))
    with pytest.raises(StoreError, match="goes with the job"):
        check_store_stays(Store.open("runs"))
