"""How many trials a cluster can run: its nodes, and what its autoscaler can add, are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from lotus_ray.base.errors import ClusterError, JobError
from lotus_ray.cluster import autoscaler, waiting
from lotus_ray.cluster.autoscaler import NodeType, Report
from lotus_ray.cluster.capacity import (
    check_this_machine,
    concurrent_trials,
    most_places,
    narrowed,
    trials_when_grown,
)
from lotus_ray.cluster.nodes import max_workers
from lotus_ray.job.load import load_job
from lotus_ray.job.schema.resources import Resources

JOB = Path(__file__).parents[2] / "jobs" / "digits.yaml"
GIB = float(1 << 30)
HEAD = {"node:__internal_head__": 1.0, "memory": 30 * GIB}
ONE_GPU = NodeType("one", {"CPU": 8.0, "GPU": 1.0}, 8)
FOUR_GPUS = NodeType("four", {"CPU": 48.0, "GPU": 4.0}, 2)
GPU = Resources(cpus_per_worker=4, gpus_per_worker=1)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend to have joined a cluster of some nodes."""
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")

    def have(*resources: dict[str, float]) -> None:
        listed = [{"Alive": True, "Resources": each} for each in resources]
        monkeypatch.setattr("lotus_ray.cluster.nodes.ray", SimpleNamespace(nodes=lambda: listed))

    return have


def fake_ray(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float]) -> None:
    """Pretend that Ray was started here and has these nodes."""
    alive = [{"Alive": True, "Resources": node} for node in resources]
    dead = [{"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}]
    monkeypatch.setattr("lotus_ray.cluster.nodes.ray", SimpleNamespace(nodes=lambda: alive + dead))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


FOUR_CPUS = {"CPU": 4.0}


@pytest.mark.parametrize(
    ("nodes", "need", "groups"),
    [
        ([{"CPU": 2.0}], Resources(), 2),
        ([{"CPU": 7.0}], Resources(workers=2), 3),
        ([{"CPU": 64.0, "GPU": 4.0}], Resources(gpus_per_worker=1), 4),
        ([{"CPU": 64.0, "GPU": 1.0}], Resources(gpus_per_worker=0.25), 4),
        ([{"CPU": 64.0, "GPU": 2.0}], Resources(gpus_per_worker=0.6), 2),  # none on two halves
        ([{"CPU": 64.0, "GPU": 1.0}], Resources(gpus_per_worker=0.1), 10),
        ([{"CPU": 64.0, "GPU": 3.0}], Resources(gpus_per_worker=0.33), 9),
        ([{"CPU": 2.0, "GPU": 1.0}], Resources(gpus_per_worker=0.25), 2),
        ([FOUR_CPUS] * 4, Resources(cpus_per_worker=3), 4),  # one worker a node
        ([FOUR_CPUS] * 4, Resources(workers=2, cpus_per_worker=3), 2),
        ([FOUR_CPUS], Resources(workers=8, min_workers=2), 1),  # a group of the four that fit
        ([FOUR_CPUS] * 3, Resources(workers=8, min_workers=4), 2),  # of eight, and of the rest
        ([FOUR_CPUS] * 3, Resources(workers=8, min_workers=5), 1),
    ],
)
def test_groups_are_bounded_by_the_scarce_resource(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], need: Resources, groups: int
) -> None:
    fake_ray(monkeypatch, *nodes)
    assert concurrent_trials(need, print) == groups


@pytest.mark.parametrize(
    ("nodes", "need"),
    [
        ([{"CPU": 8.0}], Resources(gpus_per_worker=1)),
        ([FOUR_CPUS] * 4, Resources(cpus_per_worker=8)),  # no node holds such a worker
        ([FOUR_CPUS], Resources(workers=8, min_workers=5)),
    ],
)
def test_a_group_that_could_never_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], need: Resources
) -> None:
    fake_ray(monkeypatch, *nodes)
    with pytest.raises(ClusterError) as raised:
        concurrent_trials(need, print)
    assert raised.value.exit_code == 6
    assert "one worker needs" in str(raised.value)


def test_a_machine_too_small_for_the_fewest_workers_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On two CPUs: 1 to 4 workers fit, 3 to 4 do not. The command it names is a valid job."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("lotus_ray.cluster.capacity.os.sched_getaffinity", lambda _: {0, 1})
    check_this_machine(Resources(workers=4, min_workers=1))
    with pytest.raises(ClusterError) as raised:
        check_this_machine(Resources(workers=4, min_workers=3))
    error = raised.value
    assert error.what == (
        "one worker needs 1 CPU and one trial 3 to 4 workers; the largest node has 2 CPUs"
    )
    assert error.where == "resources.min_workers × resources.cpus_per_worker"
    options = error.next_command.replace("--set", "").split()[3:]
    assert load_job(JOB, ["resources.min_workers=3", *options]).job.resources.min_workers == 2


def test_a_job_may_ask_for_fewer_groups_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ray(monkeypatch, FOUR_CPUS)
    assert concurrent_trials(Resources(trials_at_once=3), print) == 3
    assert concurrent_trials(Resources(trials_at_once=8), print) == 4


def test_types_count_beside_the_nodes_that_are_there() -> None:
    """8 nodes with one GPU and 2 with four hold 16 workers; those there already are among them."""
    types = [ONE_GPU, FOUR_GPUS]
    assert max_workers(GPU, [HEAD], types) == 16
    assert max_workers(GPU, [HEAD, ONE_GPU.resources], types) == 16
    assert max_workers(GPU, [HEAD, ONE_GPU.resources]) == 1
    assert max_workers(Resources(cpus_per_worker=9, gpus_per_worker=1), [], types) == 8
    assert max_workers(Resources(gpus_per_worker=0.25), [], [ONE_GPU]) == 32


def test_a_grid_asks_for_as_many_trials_as_its_autoscaler_can_place(
    nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 places fit."""
    waited: list[Resources] = []
    monkeypatch.setattr(autoscaler, "node_types", lambda: [ONE_GPU, FOUR_GPUS])
    monkeypatch.setattr(waiting, "wait_for_first_trial", lambda need, say: waited.append(need))
    nodes(HEAD)
    assert concurrent_trials(GPU, print) == 16
    nodes(HEAD, dict(ONE_GPU.resources))
    assert concurrent_trials(GPU, print) == 16
    assert concurrent_trials(GPU.model_copy(update={"workers": 8}), print) == 2
    assert trials_when_grown(GPU, [ONE_GPU, FOUR_GPUS]) == 16
    assert concurrent_trials(GPU.model_copy(update={"trials_at_once": 3}), print) == 3
    assert waited == []  # the trials wait themselves, and what they wait for is told


def test_trials_of_a_cluster_that_grows_take_what_there_can_be(
    nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 16 workers: one trial of 99 that does with 16; one of 12, and one of the four left."""
    monkeypatch.setattr(autoscaler, "node_types", lambda: [ONE_GPU, FOUR_GPUS])
    nodes(HEAD)
    for workers, least, trials in ((99, 16, 1), (12, 4, 2), (12, 5, 1)):
        need = GPU.model_copy(update={"workers": workers, "min_workers": least})
        assert concurrent_trials(need, print) == trials


@pytest.mark.parametrize(
    ("cells", "least", "workers"),
    [
        (30, None, 8),  # the job allows no other number
        (30, 1, 1),
        (9, 1, 1),
        (8, 1, 2),  # two of the sixteen for each
        (5, 1, 3),
        (3, 1, 5),
        (2, 1, 8),
        (1, 1, 8),
        (30, 4, 4),  # no fewer
    ],
)
def test_a_place_takes_fewer_workers_where_cells_outnumber_places(
    cells: int,
    least: int | None,
    workers: int,
    nodes: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cluster grows to 16 workers, which is two places of eight."""
    monkeypatch.setattr(autoscaler, "node_types", lambda: [ONE_GPU, FOUR_GPUS])
    nodes(HEAD)
    need = GPU.model_copy(update={"workers": 8, "min_workers": least})
    assert narrowed(need, cells).workers == workers


def test_where_nodes_may_come_a_place_stays_as_wide_as_the_job_says(
    nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only four workers are there, and nobody says what can be added."""
    monkeypatch.setattr(autoscaler, "node_types", lambda: None)
    nodes(HEAD, dict(FOUR_GPUS.resources))
    need = GPU.model_copy(update={"workers": 8, "min_workers": 1})
    assert narrowed(need, 30) is need


def test_where_nobody_says_what_can_be_added_what_fits_counts(
    nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoscaler, "node_types", lambda: None)
    monkeypatch.setattr(
        waiting,
        "wait_for_first_trial",
        lambda need, say: nodes(HEAD, dict(FOUR_GPUS.resources)),
    )
    nodes(HEAD)
    assert concurrent_trials(GPU, print) == 4


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
    monkeypatch.setattr(waiting, "wait_for_first_trial", lambda need, say: pytest.fail("it waits"))
    nodes(HEAD)
    with pytest.raises(ClusterError) as raised:
        concurrent_trials(need, print)
    error = raised.value
    assert error.exit_code == 6
    assert error.what.startswith("a trial does not fit on this cluster, and its autoscaler can")
    assert (error.where, error.nearest) == (f"resources.{field}", fits)
    assert f"--set resources.{field}={fits}" in error.next_command


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("resources.gpus_per_worker=1.5", "above 1 must be an integer"),
        ("resources={workers: 2, gpus_per_worker: 0.5}", "cannot share a GPU"),
    ],
)
def test_parts_of_gpus_that_ray_or_nccl_would_refuse_are_job_errors(
    settings: str, words: str
) -> None:
    with pytest.raises(JobError) as raised:
        load_job(JOB, [settings])
    assert words in str(raised.value)
    load_job(JOB, ["resources={workers: 2, gpus_per_worker: 2}"])
    load_job(JOB, ["resources.gpus_per_worker=0.25", "resources.workers=1"])


def test_places_follow_the_nodes(
    nodes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is unknown: as many places wait for nodes as have started, at least one.

    Four fit on the node with four GPUs. Where the limit is known, all that can be there wait.
    Where nobody adds nodes, none waits.
    """
    monkeypatch.setattr(autoscaler, "node_types", lambda: None)
    monkeypatch.setattr(autoscaler, "read_report", Report)
    nodes(HEAD, dict(FOUR_GPUS.resources))
    assert [most_places(GPU, started) for started in (0, 1, 3)] == [4, 4, 4]
    monkeypatch.setattr(autoscaler, "read_report", lambda: Report(exists=True))
    nodes(HEAD)
    assert [most_places(GPU, started) for started in (0, 1, 3)] == [1, 2, 6]
    nodes(HEAD, dict(FOUR_GPUS.resources))
    assert [most_places(GPU, started) for started in (0, 1, 3)] == [4, 4, 6]
    assert most_places(GPU.model_copy(update={"trials_at_once": 2}), 4) == 2
    monkeypatch.setattr(autoscaler, "node_types", lambda: [ONE_GPU, FOUR_GPUS])
    assert most_places(GPU, 1) == 16


def test_places_of_this_machine_are_those_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ray(monkeypatch, FOUR_CPUS)
    assert most_places(Resources(), 0) == 4
