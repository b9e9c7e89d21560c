"""What a cluster can grow to hold: nodes, types and the autoscaler's words are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import yaml
from ray.core.generated.autoscaler_pb2 import (
    ClusterConfig,
    GetClusterStatusReply,
)

from lotus_ray.base.errors import ClusterError, JobError
from lotus_ray.cluster import autoscaler, session
from lotus_ray.cluster import nodes as nodes_module
from lotus_ray.cluster.autoscaler import (
    PATIENCE_SECONDS,
    REFUSED_SECONDS,
    NodeType,
    Word,
    await_group,
    configured_types,
    trials_to_come,
    workers_at_most,
)
from lotus_ray.cluster.train_function import run_on_workers
from lotus_ray.job.load import load_job
from lotus_ray.job.schema.resources import Resources

GIB = float(1 << 30)
HEAD = {"node:__internal_head__": 1.0, "memory": 30 * GIB}
ONE_GPU = NodeType("one", {"CPU": 8.0, "GPU": 1.0}, 8)
FOUR_GPUS = NodeType("four", {"CPU": 48.0, "GPU": 4.0}, 2)
GPU = Resources(cpus_per_worker=4, gpus_per_worker=1)
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


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend to have joined a cluster of some nodes."""
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")

    def have(*resources: dict[str, float]) -> None:
        listed = [{"Alive": True, "Resources": each} for each in resources]
        monkeypatch.setattr(nodes_module, "ray", SimpleNamespace(nodes=lambda: listed))

    return have


def test_types_count_beside_the_nodes_that_are_there() -> None:
    """8 nodes with one GPU and 2 with four hold 16 workers; those there already are among them."""
    types = [ONE_GPU, FOUR_GPUS]
    assert workers_at_most(GPU, [HEAD], types) == 16
    assert workers_at_most(GPU, [HEAD, ONE_GPU.resources], types) == 16
    assert workers_at_most(GPU, [HEAD, ONE_GPU.resources]) == 1
    assert workers_at_most(Resources(cpus_per_worker=9, gpus_per_worker=1), [], types) == 8
    assert workers_at_most(Resources(gpus_per_worker=0.25), [], [ONE_GPU]) == 32


def test_a_grid_asks_for_as_many_trials_as_its_autoscaler_can_place(
    nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 trials fit, 20 drivers of trials fit a head of 30 GiB; 6 one of 10."""
    waited: list[Resources] = []
    monkeypatch.setattr(autoscaler, "node_types", lambda: [ONE_GPU, FOUR_GPUS])
    monkeypatch.setattr(autoscaler, "wait_for_one_trial", lambda need, say: waited.append(need))
    nodes(HEAD)
    assert session.concurrent_trials(GPU, print) == 16
    nodes(HEAD, dict(ONE_GPU.resources))
    assert session.concurrent_trials(GPU, print) == 16
    assert session.concurrent_trials(GPU.model_copy(update={"workers": 8}), print) == 2
    nodes({**HEAD, "memory": 10 * GIB})
    assert trials_to_come(GPU, [ONE_GPU, FOUR_GPUS]) == 6
    assert session.concurrent_trials(GPU.model_copy(update={"trials_at_once": 3}), print) == 3
    assert waited == []  # the trials wait themselves, and what they wait for is told


def test_trials_of_a_cluster_that_grows_take_what_there_can_be(
    nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 16 workers: one trial of 99 that does with 16; one of 12, and one of the four left."""
    monkeypatch.setattr(autoscaler, "node_types", lambda: [ONE_GPU, FOUR_GPUS])
    nodes(HEAD)
    for workers, least, trials in ((99, 16, 1), (12, 4, 2), (12, 5, 1)):
        need = GPU.model_copy(update={"workers": workers, "min_workers": least})
        assert session.concurrent_trials(need, print) == trials


def test_the_fewest_workers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An autoscaler that can add two nodes, but not four, does not refuse a trial of 2 to 4."""
    asked: list[list[dict[str, float]]] = []

    def group(bundles: list[dict[str, float]], strategy: str) -> Waiting:
        asked.append(bundles)
        return Waiting(1)

    util = SimpleNamespace(placement_group=group, remove_placement_group=lambda _: None)
    monkeypatch.setattr(autoscaler, "ray", SimpleNamespace(util=util))
    monkeypatch.setattr(autoscaler, "autoscaler_word", lambda: Word(exists=True))
    lines: list[str] = []
    need = GPU.model_copy(update={"workers": 4, "min_workers": 2})
    autoscaler.wait_for_one_trial(need, lines.append)
    assert asked == [[{"CPU": 4, "GPU": 1}] * 2]
    assert lines == [
        "waiting for nodes for the first trial: each of 2 to 4 workers needs 4 CPUs, 1 GPUs"
    ]


def test_where_nobody_says_what_can_be_added_what_fits_counts(
    nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoscaler, "node_types", lambda: None)
    monkeypatch.setattr(
        autoscaler,
        "wait_for_one_trial",
        lambda need, say: nodes(HEAD, dict(FOUR_GPUS.resources)),
    )
    nodes(HEAD)
    assert session.concurrent_trials(GPU, print) == 4


@pytest.mark.parametrize(
    ("need", "field", "fits"),
    [
        (Resources(gpus_per_worker=8), "gpus_per_worker", "4"),
        (Resources(gpus_per_worker=1, cpus_per_worker=64), "cpus_per_worker", "48"),
        (Resources(gpus_per_worker=4, cpus_per_worker=49), "cpus_per_worker", "48"),
        (Resources(gpus_per_worker=1, workers=99), "workers", "16"),
        (Resources(gpus_per_worker=1, workers=99, min_workers=17), "min_workers", "16"),
    ],
)
def test_what_no_node_could_ever_hold_is_refused_before_anything_runs(
    need: Resources,
    field: str,
    fits: str,
    nodes: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In four parts. 8 nodes with one GPU and 2 with four hold 16 workers."""
    monkeypatch.setattr(autoscaler, "node_types", lambda: [ONE_GPU, FOUR_GPUS])
    monkeypatch.setattr(autoscaler, "wait_for_one_trial", lambda need, say: pytest.fail("it waits"))
    nodes(HEAD)
    with pytest.raises(ClusterError) as raised:
        session.concurrent_trials(need, print)
    error = raised.value
    assert error.exit_code == 6
    assert error.what.startswith("this cluster has no place for a trial, and its autoscaler can")
    assert (error.where, error.nearest) == (f"resources.{field}", fits)
    assert f"--set resources.{field}={fits}" in error.next_command


class Waiting:
    """A placement group that is placed after so many looks, on a clock of its own."""

    id = SimpleNamespace(hex=lambda: "abc")

    def __init__(self, looks: float) -> None:
        self.looks = looks
        self.now = 0.0

    def wait(self, timeout_seconds: float) -> bool:
        self.now += timeout_seconds
        self.looks -= 1
        return self.looks < 0

    def clock(self) -> float:
        return self.now


def told(group: Waiting, words: Callable[[float], Word], need: Resources = GPU) -> list[str]:
    lines: list[str] = []
    await_group(group, need, lines.append, lambda: words(group.now), group.clock)
    return lines


def test_one_line_says_what_is_waited_for() -> None:
    assert told(Waiting(0), lambda now: Word()) == []
    two = GPU.model_copy(update={"workers": 2})
    assert told(Waiting(50), lambda now: Word(exists=True)) == [
        "waiting for nodes for the first trial: a worker needs 4 CPUs, 1 GPUs"
    ]
    assert told(Waiting(2), lambda now: Word(), two) == [
        "waiting for nodes for the first trial: each of 2 workers needs 4 CPUs, 1 GPUs"
    ]


def test_why_a_machine_could_not_be_had_is_said_once() -> None:
    """A cloud without spot machines: the autoscaler tries again, and the grid waits on."""
    failing = Word(exists=True, failures=("one: InsufficientInstanceCapacity",))
    lines = told(Waiting(1000), lambda now: failing)
    assert lines[1:] == ["the autoscaler could not add a node: one: InsufficientInstanceCapacity"]


def test_an_autoscaler_that_says_never_is_believed_after_a_while(
    nodes: Callable[..., None],
) -> None:
    nodes(HEAD)
    refused = Word(exists=True, refused=("abc:PACK|PENDING",))
    group = Waiting(1e9)
    with pytest.raises(ClusterError, match="its autoscaler can add none"):
        told(group, lambda now: refused)
    assert REFUSED_SECONDS <= group.now <= REFUSED_SECONDS + 10
    another = Word(exists=True, refused=("def:PACK|PENDING",))
    assert len(told(Waiting(100), lambda now: another)) == 1
    moments = told(Waiting(100), lambda now: refused if now % 20 < 10 else Word(exists=True))
    assert len(moments) == 1  # it was at its limit for a moment, again and again


def test_where_no_autoscaler_is_somebody_may_add_a_node_for_ten_minutes(
    nodes: Callable[..., None],
) -> None:
    nodes(HEAD)
    group = Waiting(1e9)
    with pytest.raises(ClusterError, match="in 10 min nobody added one"):
        told(group, lambda now: Word())
    assert PATIENCE_SECONDS <= group.now <= PATIENCE_SECONDS + 10
    assert len(told(Waiting(PATIENCE_SECONDS / 2 - 10), lambda now: Word())) == 1


def test_the_words_of_an_autoscaler_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = GetClusterStatusReply()
    reply.autoscaling_state.autoscaler_state_version = 7
    reply.autoscaling_state.infeasible_gang_resource_requests.add(details="abc:PACK|PENDING")
    reply.autoscaling_state.failed_instance_requests.add(ray_node_type_name="one", reason="none")
    client = SimpleNamespace(get_cluster_status=lambda timeout_s: reply.SerializeToString())
    monkeypatch.setattr(autoscaler, "internal_kv_get_gcs_client", lambda: client)
    monkeypatch.setattr(autoscaler, "ray", SimpleNamespace(nodes=lambda: [{"Labels": {}}]))
    assert autoscaler.autoscaler_word() == Word(True, ("abc:PACK|PENDING",), ("one: none",))
    reply.Clear()
    assert autoscaler.autoscaler_word() == Word()
    started = {"Labels": {"ray.io/node-group": "head"}}  # by the older autoscaler, which is silent
    monkeypatch.setattr(autoscaler, "ray", SimpleNamespace(nodes=lambda: [started]))
    assert autoscaler.autoscaler_word() == Word(exists=True)


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


def test_what_a_platform_reports_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = ClusterConfig()
    kind = reported.node_group_configs.add(name="one", max_count=-1)
    kind.resources["GPU"] = 1
    state = SimpleNamespace(get_cluster_config=lambda: reported)
    monkeypatch.setattr(autoscaler, "cluster_state", state)
    found = autoscaler.node_types()
    assert found is not None
    assert (found[0].name, found[0].resources) == ("one", {"GPU": 1.0})
    assert found[0].at_most > 1000


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[ray.train.ScalingConfig]:
    """Return what Ray Train is asked for, instead of asking it."""
    asked: list[ray.train.ScalingConfig] = []

    class Trainer:
        def __init__(
            self, *args: Any, scaling_config: ray.train.ScalingConfig, **rest: Any
        ) -> None:
            asked.append(scaling_config)

        def fit(self) -> Any:
            return SimpleNamespace(return_value=None)

    monkeypatch.setattr("lotus_ray.cluster.train_function.TorchTrainer", Trainer)
    return asked


@pytest.mark.parametrize(
    ("need", "workers", "patience"),
    [
        (Resources(workers=3), 3, None),
        (Resources(workers=3, min_workers=3), 3, None),
        (Resources(workers=3, min_workers=1), (1, 3), "10"),
    ],
)
def test_elastic_workers_reach_ray_as_they_stand(
    need: Resources,
    workers: int | tuple[int, int],
    patience: str | None,
    asked: list[ray.train.ScalingConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where their number is fixed, Ray waits for nodes as it always did."""
    name = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
    environment = dict[str, str]()
    monkeypatch.setattr("lotus_ray.cluster.train_function.os.environ", environment)
    run_on_workers(lambda workers, device: None, need, "/tmp")
    assert asked[0].num_workers == workers
    assert environment.get(name) == patience
    environment[name] = "7"
    run_on_workers(lambda workers, device: None, need, "/tmp")
    assert environment[name] == "7"  # what a job sets is left to it


@pytest.mark.parametrize(("kept", "looks"), [(0, 60), (600, 600)])
def test_workers_grow_no_more_often_than_checkpoints_are_kept(
    kept: float, looks: float, asked: list[ray.train.ScalingConfig]
) -> None:
    need = Resources(workers=1, checkpoint_seconds=kept)
    run_on_workers(lambda workers, device: None, need, "/tmp")
    assert asked[0].elastic_resize_monitor_interval_s == looks


def test_part_of_a_gpu_reaches_ray_as_it_stands(asked: list[ray.train.ScalingConfig]) -> None:
    """ScalingConfig accepts it, and the trial's worker is asked for with it."""
    need = Resources(cpus_per_worker=2, gpus_per_worker=0.25)
    run_on_workers(lambda workers, device: None, need, "/tmp")
    assert asked[0].use_gpu
    assert asked[0].resources_per_worker == {"CPU": 2.0, "GPU": 0.25}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("resources.gpus_per_worker=1.5", "above 1 is a whole number"),
        ("resources={workers: 2, gpus_per_worker: 0.5}", "cannot share a GPU"),
    ],
)
def test_parts_of_gpus_that_ray_or_nccl_would_refuse_are_job_errors(
    settings: str, words: str
) -> None:
    job = Path(__file__).parents[2] / "jobs" / "digits.yaml"
    with pytest.raises(JobError) as raised:
        load_job(job, [settings])
    assert words in str(raised.value)
    load_job(job, ["resources={workers: 2, gpus_per_worker: 2}"])
    load_job(job, ["resources.gpus_per_worker=0.25", "resources.workers=1"])


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
    said = [request.details for request in reply.infeasible_gang_resource_requests]
    assert said == (["abc:PACK|PENDING"] if refused else [])
    assert sum(launch.count for launch in reply.to_launch) == (0 if refused else 2)
