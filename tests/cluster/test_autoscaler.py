"""Ray's own autoscaler, with nodes that are processes of this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")

from lotus_ray.store.results import Store
from tests.cluster.clusters import ROOT, Head, ended, free_port, head, processes, wait_until

pytestmark = pytest.mark.cluster
HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
FAKE = "ray.autoscaler._private.fake_multi_node.node_provider"
COMMANDS = (
    "head_setup_commands",
    "head_start_ray_commands",
    "initialization_commands",
    "setup_commands",
    "worker_setup_commands",
    "worker_start_ray_commands",
)
WORKERS = 2


def configuration(address: str) -> dict[str, object]:
    """Return a head without CPUs and up to two workers with one, idle for six seconds at most."""
    worker = {"resources": {"CPU": 1, "object_store_memory": 100 << 20}, "node_config": {}}
    return {
        "cluster_name": "test",
        "max_workers": WORKERS,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "external",  # `fake_multinode` reads defaults that are not in Ray's wheel
            "module": f"{FAKE}.FakeMultiNodeProvider",
            "gcs_address": address,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
            "worker": {**worker, "min_workers": 0, "max_workers": WORKERS},
        },
        "head_node_type": "ray.head.default",
        **{name: [] for name in COMMANDS},
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Head]:
    """What `AutoscalingCluster` starts, without the file that its wheel lacks and `ray stop`."""
    file, port = tmp_path / "cluster.json", free_port()
    file.write_text(json.dumps(configuration(f"127.0.0.1:{port}")))
    environment = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_enable_autoscaler_v2": "1",
    }
    options = ("--num-cpus", "0", "--autoscaling-config", str(file))
    with head(*options, port=port, **environment) as started:
        yield started


def test_a_grid_takes_the_workers_it_needs_and_gives_them_back(
    cluster: Head, tmp_path: Path
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    assert workers(cluster) == 0
    command = [
        *("lotus-ray", "grid", str(ROOT / "jobs" / "digits.yaml"), "--store", str(store)),
        *("--limit", "143", "--set", "grid.methods=[original]", "--set", "grid.seeds=[1,2]"),
        *("--set", f"resources.trials_at_once={WORKERS}"),
    ]
    most = 0
    driver = cluster.start(*command, log=log)
    with ended(driver):
        while driver.poll() is None:
            most = max(most, workers(cluster))
            time.sleep(0.1)
    said = log.read_text()
    assert driver.returncode == 0, said
    assert most == WORKERS
    rows = Store.open(str(store)).rows().values()
    assert [(row.status, row.attempts) for row in rows] == [("ok", 1)] * 2
    first = "waiting for nodes: 0 of 2 places have theirs (a worker needs 1 CPU, 0 GPUs)"
    assert first in said[: said.index(": running at")], said
    assert said.count("  all places have their nodes\n") == 1
    assert said.count("waiting for nodes") <= 2
    wait_until(lambda: workers(cluster) == 0)


def workers(cluster: Head) -> int:
    """Return how many nodes run beside the head."""
    return len(processes(str(cluster.folder), "/raylet/raylet ")) - 1
