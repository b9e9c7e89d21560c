"""What is said of nodes that are missing, and how long they are waited for: no Ray starts here."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from lotus_ray.base.errors import ClusterError
from lotus_ray.cluster import autoscaler, nodes, waiting
from lotus_ray.cluster.autoscaler import Report
from lotus_ray.cluster.waiting import (
    INFEASIBLE_SECONDS,
    NO_AUTOSCALER_SECONDS,
    say_what_is_missing,
    wait_for_first_trial,
    wait_until_placed,
)
from lotus_ray.job.schema.resources import Resources

GPU = Resources(cpus_per_worker=4, gpus_per_worker=1)


@pytest.fixture
def only_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [{"Alive": True, "Resources": {"node:__internal_head__": 1.0}}]
    monkeypatch.setattr(nodes, "ray", SimpleNamespace(nodes=lambda: listed))


def wait_for(lines: list[str], count: int) -> None:
    end = time.monotonic() + 30
    while len(lines) < count:
        assert time.monotonic() < end, lines
        time.sleep(0.01)


def test_it_is_said_how_many_trials_wait_whenever_that_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trials of two workers with three CPUs: no node, then one with six CPUs, then two of them.

    A trial that is finished waits for nothing any more: three are left, then one. Then more nodes
    are there, five cells, and three places start.
    """
    there: list[dict[str, object]] = []
    monkeypatch.setattr(nodes, "ray", SimpleNamespace(nodes=lambda: list(there)))
    left, places, lines = [3], [2], list[str]()
    need = Resources(workers=2, cpus_per_worker=3)
    node = {"Alive": True, "Resources": {"CPU": 6.0}}
    with say_what_is_missing(
        lambda: places[0], need, lines.append, lambda: left[0], poll_seconds=0.01
    ):
        wait_for(lines, 1)
        there.append(node)
        wait_for(lines, 2)
        there.append(node)
        wait_for(lines, 3)
        there.remove(node)
        wait_for(lines, 4)
        left[0] = 1
        wait_for(lines, 5)
        places[0] = 0  # none runs for a moment
        time.sleep(0.05)
        left[0], places[0] = 5, 3
        wait_for(lines, 6)
        time.sleep(0.05)
    each = "(each of 2 workers needs 3 CPUs, 0 GPUs)"
    assert lines == [
        f"waiting for nodes: 0 of 2 places have theirs {each}",
        f"waiting for nodes: 1 of 2 places have theirs {each}",
        "all places have their nodes",
        f"waiting for nodes: 1 of 2 places have theirs {each}",
        "all places have their nodes",
        f"waiting for nodes: 1 of 3 places have theirs {each}",
    ]


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


def told(group: Waiting, words: Callable[[float], Report], need: Resources = GPU) -> list[str]:
    lines: list[str] = []
    wait_until_placed(group, need, lines.append, lambda: words(group.now), group.clock)
    return lines


def test_one_line_says_what_is_waited_for() -> None:
    assert told(Waiting(0), lambda now: Report()) == []
    two = GPU.model_copy(update={"workers": 2})
    assert told(Waiting(50), lambda now: Report(exists=True)) == [
        "waiting for nodes for the first place: a worker needs 4 CPUs, 1 GPU"
    ]
    assert told(Waiting(2), lambda now: Report(), two) == [
        "waiting for nodes for the first place: each of 2 workers needs 4 CPUs, 1 GPU"
    ]


def test_why_a_machine_could_not_be_had_is_said_once() -> None:
    """A cloud without spot machines: the autoscaler tries again, and the grid waits on."""
    failing = Report(exists=True, failures=("one: InsufficientInstanceCapacity",))
    lines = told(Waiting(1000), lambda now: failing)
    assert lines[1:] == ["the autoscaler could not add a node: one: InsufficientInstanceCapacity"]


def test_an_autoscaler_that_says_never_is_believed_after_a_while(
    only_a_head: None,
) -> None:
    refused = Report(exists=True, infeasible=("abc:PACK|PENDING",))
    group = Waiting(1e9)
    with pytest.raises(ClusterError, match="its autoscaler can add none"):
        told(group, lambda now: refused)
    assert INFEASIBLE_SECONDS <= group.now <= INFEASIBLE_SECONDS + 10
    another = Report(exists=True, infeasible=("def:PACK|PENDING",))
    assert len(told(Waiting(100), lambda now: another)) == 1
    moments = told(Waiting(100), lambda now: refused if now % 20 < 10 else Report(exists=True))
    assert len(moments) == 1  # it was at its limit for a moment, again and again


def test_where_no_autoscaler_is_somebody_may_add_a_node_for_ten_minutes(
    only_a_head: None,
) -> None:
    group = Waiting(1e9)
    with pytest.raises(ClusterError, match="in 10 min nobody added one"):
        told(group, lambda now: Report())
    assert NO_AUTOSCALER_SECONDS <= group.now <= NO_AUTOSCALER_SECONDS + 10
    lines = told(Waiting(NO_AUTOSCALER_SECONDS / 2 - 10), lambda now: Report())
    assert lines[1:] == [
        "no node is large enough, and this cluster adds none by itself: "
        "the command waits 10 min for somebody to add one"
    ]


def test_the_fewest_workers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An autoscaler that can add two nodes, but not four, does not refuse a trial of 2 to 4."""
    asked: list[list[dict[str, float]]] = []

    def group(bundles: list[dict[str, float]], strategy: str) -> Waiting:
        asked.append(bundles)
        return Waiting(1)

    util = SimpleNamespace(placement_group=group, remove_placement_group=lambda _: None)
    monkeypatch.setattr(waiting, "ray", SimpleNamespace(util=util))
    monkeypatch.setattr(autoscaler, "read_report", lambda: Report(exists=True))
    lines: list[str] = []
    need = GPU.model_copy(update={"workers": 4, "min_workers": 2})
    wait_for_first_trial(need, lines.append)
    assert asked == [[{"CPU": 4, "GPU": 1}] * 2]
    assert lines == [
        "waiting for nodes for the first place: each of 2 to 4 workers needs 4 CPUs, 1 GPU"
    ]
