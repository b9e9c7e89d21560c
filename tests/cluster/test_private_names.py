"""What we use of Ray that Ray does not promise: found by name, without starting Ray.

A new version of Ray fails here first. `ray` has an upper bound in pyproject.toml for the same
reason: it is the version that these tests ran with.
"""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")

import ray
from packaging.requirements import Requirement
from packaging.version import Version

import lotus_ray.cluster
from lotus_ray.cluster import ray_private

ROOT = Path(__file__).parents[2]
PRIVATE = re.compile(r"ray(\.\w+)*\.(_(?!_)\w+|generated)(\.\w+)*")
# All that lotus_ray/cluster/ray_private.py names.
NAMES = {
    "ray._private.ray_constants.KV_NAMESPACE_CLUSTER",
    "ray._private.services",
    "ray._private.state.state",
    "ray._private.worker.print_to_stdstream",
    "ray._raylet.Config",
    "ray._raylet.GcsClient",
    "ray.core.generated.autoscaler_pb2.AutoscalingState",
    "ray.core.generated.autoscaler_pb2.DrainNodeReason",
    "ray.core.generated.autoscaler_pb2.GetClusterStatusReply",
    "ray.core.generated.autoscaler_pb2.NodeGroupConfig",
    "ray.train.v2._internal.execution.context.get_train_context",
}


def private_names(file: Path) -> Iterator[str]:
    """Yield the private names of Ray that a file imports or reaches by dots."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        yield from (name for name in names if PRIVATE.fullmatch(name))


def longest(names: set[str]) -> set[str]:
    """Leave out names that others begin with: `a.b` beside `a.b.c`."""
    return {name for name in names if not any(other.startswith(f"{name}.") for other in names)}


def test_private_names_stand_in_one_file() -> None:
    files = sorted((ROOT / "lotus_ray").rglob("*.py"))
    found = {file.name: set(private_names(file)) for file in files}
    assert {name for name, names in found.items() if names} == {"ray_private.py"}
    assert longest(found["ray_private.py"]) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_private_name_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    imported = __import__(module, fromlist=[attribute])
    assert getattr(imported, attribute) is not None


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("drain_node", ("node_id", "reason", "reason_message", "deadline_timestamp_ms", "timeout")),
        ("get_all_node_info", ("timeout",)),
        ("get_cluster_status", ("timeout_s",)),
        ("internal_kv_get", ("key", "namespace", "timeout")),
    ],
)
def test_rays_client_takes_what_we_give_it(method: str, arguments: tuple[str, ...]) -> None:
    """GcsClient hands every call on to InnerGcsClient."""
    from ray._raylet import InnerGcsClient  # type: ignore[attr-defined]

    taken = list(inspect.signature(getattr(InnerGcsClient, method)).parameters)[1:]
    assert tuple(taken[: len(arguments)]) == arguments


def test_fields_of_answers_are_there() -> None:
    """A node of the cluster, the state and the types of node of an autoscaler."""
    from ray.core.generated import autoscaler_pb2
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    fields = {
        GcsNodeInfo: {"state", "node_manager_address", "resources_total"},
        autoscaler_pb2.AutoscalingState: {
            *("autoscaler_state_version", "failed_instance_requests"),
            "infeasible_gang_resource_requests",
        },
        autoscaler_pb2.GetClusterStatusReply: {"autoscaling_state"},
        autoscaler_pb2.NodeGroupConfig: {"name", "resources", "max_count"},
    }
    for message, wanted in fields.items():
        assert wanted <= set(message.DESCRIPTOR.fields_by_name)
    assert GcsNodeInfo.GcsNodeState.Value("ALIVE") == ray_private.ALIVE
    assert "DRAIN_NODE_REASON_PREEMPTION" in autoscaler_pb2.DrainNodeReason.keys()  # noqa: SIM118


def test_functions_take_what_we_give_them() -> None:
    from ray._private import services
    from ray._private.state import state
    from ray._raylet import Config  # type: ignore[attr-defined]

    canonicalize = services.canonicalize_bootstrap_address
    assert next(iter(inspect.signature(canonicalize).parameters)) == "addr"
    assert callable(state.get_cluster_config)
    assert callable(Config.initialize)


def test_variables_that_we_set_are_ones_that_ray_reads() -> None:
    """Each is a text in the sources of Ray; the compiled part reads none of these."""
    package = Path(ray.__file__).parent
    where = {
        "RAY_AIR_NEW_OUTPUT": "tune/experimental/output.py",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "data/context.py",
        "RAY_DATA_USE_DATASOURCE_V2": "data/context.py",
        "RAY_ENABLE_AUTO_CONNECT": "_private/auto_init_hook.py",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": "_private/runtime_env/constants.py",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "train/v2/_internal/constants.py",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "train/v2/_internal/constants.py",
        "RAY_TRAIN_V2_ENABLED": "train/v2/_internal/constants.py",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "train/v2/_internal/constants.py",
        "RAY_USAGE_STATS_ENABLED": "_common/usage/usage_constants.py",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "tune/utils/callback.py",
        "TUNE_DISABLE_SIGINT_HANDLER": "tune/tune.py",
    }
    assert set(lotus_ray.cluster.ENVIRONMENT) <= set(where)
    for name, file in where.items():
        assert name in (package / file).read_text(), name


def test_the_installed_ray_is_the_newest_that_is_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bounds,) = (
        wanted.specifier
        for wanted in map(Requirement, project["dependencies"])
        if wanted.name == "ray"
    )
    version = Version(ray.__version__)
    assert version in bounds
    assert f"{version.major}.{version.minor + 1}.0" not in bounds
