"""What is read of an autoscaler: its configuration and its report are made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

pytest.importorskip("ray")

from ray.core.generated.autoscaler_pb2 import AutoscalingState, ClusterConfig

from lotus_ray.cluster import autoscaler, ray_private
from lotus_ray.cluster.autoscaler import NodeType, Report, configured_types

CONFIG = {
    "max_workers": 6,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "one": {"resources": {"CPU": 8, "GPU": 1}, "node_config": {}, "max_workers": 8},
        "four": {"resources": {"CPU": 48, "GPU": 4}, "node_config": {}, "max_workers": 2},
        "any": {"resources": {"CPU": 2}, "node_config": {}},
    },
}


def test_the_report_of_an_autoscaler_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    state = AutoscalingState(autoscaler_state_version=7)
    state.infeasible_gang_resource_requests.add(details="abc:PACK|PENDING")
    state.failed_instance_requests.add(ray_node_type_name="one", reason="none")
    monkeypatch.setattr(ray_private, "autoscaling_state", lambda timeout_seconds: state)
    monkeypatch.setattr(autoscaler, "ray", SimpleNamespace(nodes=lambda: [{"Labels": {}}]))
    assert autoscaler.read_report() == Report(True, ("abc:PACK|PENDING",), ("one: none",))
    state.Clear()
    assert autoscaler.read_report() == Report()
    started = {"Labels": {"ray.io/node-group": "head"}}  # by the older autoscaler, which is silent
    monkeypatch.setattr(autoscaler, "ray", SimpleNamespace(nodes=lambda: [started]))
    assert autoscaler.read_report() == Report(exists=True)


def monitor(proc: Path, config: Path, address: str = "10.0.0.1:6379") -> None:
    """Write down the process of an autoscaler, as Linux lists it."""
    (proc / "77").mkdir(parents=True)
    words = ["python", "monitor.py", f"--gcs-address={address}", f"--autoscaling-config={config}"]
    (proc / "77" / "cmdline").write_bytes("\0".join(words).encode())


def test_the_types_of_an_autoscaler_that_runs_here_are_read(tmp_path: Path) -> None:
    """No more than max_workers of any type, and the head is none of them."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    monitor(tmp_path / "proc", config)
    assert configured_types("10.0.0.1:6379", tmp_path / "proc") == [
        NodeType("one", {"CPU": 8.0, "GPU": 1.0}, 6),
        NodeType("four", {"CPU": 48.0, "GPU": 4.0}, 2),
        NodeType("any", {"CPU": 2.0}, 6),
    ]
    assert configured_types("10.0.0.2:6379", tmp_path / "proc") is None  # it is another cluster's
    config.write_text("- no mapping")
    assert configured_types("10.0.0.1:6379", tmp_path / "proc") is None
    config.unlink()
    assert configured_types("10.0.0.1:6379", tmp_path / "proc") is None


def test_types_that_a_platform_reports_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ClusterConfig().node_group_configs.add(name="one", max_count=-1)
    kind.resources["GPU"] = 1
    monkeypatch.setattr(ray_private, "node_groups", lambda: [kind])
    (found,) = autoscaler.node_types() or []
    assert (found.name, found.resources) == ("one", {"GPU": 1.0})
    assert found.max_nodes > 1000


@pytest.mark.parametrize(("gpus", "refused"), [(1, False), (2, True)])
def test_rays_own_scheduler_names_the_group_that_it_can_never_place(
    gpus: int, refused: bool
) -> None:
    """What KubeRay's autoscaler says: one type, with one GPU, and a trial of two workers."""
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.core.generated.autoscaler_pb2 import GangResourceRequest, ResourceRequest

    bundle = ResourceRequest(resources_bundle={"CPU": 1, "GPU": gpus})
    kind = NodeTypeConfig("one", 0, 8, resources={"CPU": 8, "GPU": 1})
    reply = ResourceDemandScheduler(event_logger=None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs={"one": kind},
            max_num_nodes=8,
            gang_resource_requests=[
                GangResourceRequest(requests=[bundle, bundle], details="abc:PACK|PENDING")
            ],
        )
    )
    infeasible = [request.details for request in reply.infeasible_gang_resource_requests]
    assert infeasible == (["abc:PACK|PENDING"] if refused else [])
    assert sum(launch.count for launch in reply.to_launch) == (0 if refused else 2)
