"""What Ray Train is asked for: no Ray is started here."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("ray")

import ray.train
from ray.exceptions import ActorUnavailableError

from lotus_ray.cluster import ray_private
from lotus_ray.cluster.train_function import run_on_workers
from lotus_ray.cluster.worker_group import join_workers
from lotus_ray.job.schema.resources import Resources


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

    monkeypatch.setattr("ray.train.torch.TorchTrainer", Trainer)  # of several workers
    monkeypatch.setattr("lotus_ray.cluster.train_function.DataParallelTrainer", Trainer)
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
    run_on_workers(lambda: None, need, "/tmp")
    assert asked[0].num_workers == workers
    assert environment.get(name) == patience
    environment[name] = "7"
    run_on_workers(lambda: None, need, "/tmp")
    assert environment[name] == "7"  # what a job sets is left to it


def test_a_process_that_keeps_a_place_of_one_worker_imports_no_torch() -> None:
    """64 of them may stand on the head of a cluster whose nodes are still to come."""
    script = """
        import sys
        from lotus_ray.cluster.places import keep_place
        from lotus_ray.cluster.train_function import _trainer
        from lotus_ray.job.schema.resources import Resources

        print(_trainer(Resources())[0].__name__, "torch" in sys.modules)
        print(_trainer(Resources(workers=2))[0].__name__)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["DataParallelTrainer", "False", "TorchTrainer"]


@pytest.mark.parametrize(("kept", "looks"), [(0, 60), (600, 600)])
def test_workers_grow_no_more_often_than_checkpoints_are_kept(
    kept: float, looks: float, asked: list[ray.train.ScalingConfig]
) -> None:
    need = Resources(workers=1, checkpoint_seconds=kept)
    run_on_workers(lambda: None, need, "/tmp")
    assert asked[0].elastic_resize_monitor_interval_s == looks


def test_part_of_a_gpu_reaches_ray_as_it_stands(asked: list[ray.train.ScalingConfig]) -> None:
    """ScalingConfig accepts it, and the trial's worker is asked for with it."""
    need = Resources(cpus_per_worker=2, gpus_per_worker=0.25)
    run_on_workers(lambda: None, need, "/tmp")
    assert asked[0].use_gpu
    assert asked[0].resources_per_worker == {"CPU": 2.0, "GPU": 0.25}


def test_one_worker_asks_no_actor_whether_its_node_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's answer to all workers comes from an actor, which may die with another node."""

    def no_answer() -> None:
        raise ActorUnavailableError("The actor is temporarily unavailable", None)

    monkeypatch.setattr("ray.train.get_preemption_info", no_answer)
    monkeypatch.setattr("ray.train.torch.get_device", lambda: torch.device("cpu"))
    on_nodes(monkeypatch, ["b", "a"], rank=0)
    for size in (1, 2):
        context = SimpleNamespace(get_world_size=lambda: size, get_world_rank=lambda: 0)  # noqa: B023
        monkeypatch.setattr("ray.train.get_context", lambda: context)  # noqa: B023
        workers, _ = join_workers()
        if size == 2:
            with pytest.raises(ActorUnavailableError):
                workers.leaving()
            continue
        for info in (None, object()):
            own = SimpleNamespace(preemption_context=SimpleNamespace(preemption_info=info))
            monkeypatch.setattr(ray_private, "get_train_context", lambda: own)  # noqa: B023
            assert workers.leaving() == (info is not None)


def on_nodes(monkeypatch: pytest.MonkeyPatch, ids: list[str], rank: int) -> None:
    """Let this be the worker `rank` of a group on nodes with these ids."""

    def gather(found: list[str], own: str) -> None:
        assert own == ids[rank]
        found[:] = ids

    monkeypatch.setattr("torch.distributed.all_gather_object", gather)
    this = SimpleNamespace(get_node_id=lambda: ids[rank])
    monkeypatch.setattr("ray.get_runtime_context", lambda: this)


def test_workers_know_which_of_them_share_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(get_world_size=lambda: 4, get_world_rank=lambda: 1)
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    monkeypatch.setattr("ray.train.torch.get_device", lambda: torch.device("cpu"))
    on_nodes(monkeypatch, ["b", "a", "b", "a"], rank=1)
    workers, _ = join_workers()
    assert workers.node_of == (1, 0, 1, 0)
    assert workers.on_this_node == (1, 3)
