"""Images of a next group come to a node while a cell runs: fetched, decoded elsewhere, or left."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from lotus_ray.base.errors import DataError
from lotus_ray.cluster import ahead as module
from lotus_ray.cluster.ahead import Ahead, bring
from lotus_ray.cluster.decode_jobs import run_job
from lotus_ray.cluster.decode_queue import Job
from lotus_ray.data.pixels.cache_space import CacheSpace
from lotus_ray.data.pixels.chunks import ChunkFolder
from lotus_ray.data.pixels.decode_task import DecodeTask
from lotus_ray.data.pixels.wanted import wanted_row_groups
from lotus_ray.trial.images import files_of
from tests.cluster.test_decoder import Cluster, cluster, levels, manifest, seed
from tests.toy import PLAIN

__all__ = ["cluster", "manifest"]  # fixtures
GO_ON = threading.Event()


@pytest.fixture
def space(tmp_path: Path) -> Iterator[CacheSpace]:
    made = CacheSpace(0, 10**6, str(tmp_path), session="b" * 12)
    with made.locked():
        yield made


@pytest.fixture
def order(
    cluster: Cluster,
    space: CacheSpace,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """A group of a seed's 12 images."""
    monkeypatch.setattr("lotus_ray.cluster.ahead.ray.get", lambda answer: answer)
    monkeypatch.setattr(module, "decode_queue", lambda: cluster.queue)
    monkeypatch.setattr(module, "ChunkFolder", partial(ChunkFolder, most=4))
    monkeypatch.setattr(module, "free_cpus", lambda: 3)
    monkeypatch.setattr(module, "ensure_access", lambda work_order: None)
    monkeypatch.setattr(module, "load_roles", lambda work_order: seed(0))
    group = SimpleNamespace(manifests=(cluster.manifest.directory,), transform=PLAIN)
    return SimpleNamespace(
        group=group,
        store=str(cluster.store),
        chunks_key=cluster.folder.key,
        cache_space=space,
        max_bad_images=0,
    )


def still_missing(order: Any) -> int:
    """Open the group, and return how many of its images are not on the node."""
    missing: list[str] = []

    def decode(tasks: Sequence[DecodeTask]) -> Iterable[int]:
        missing.extend(name for task in tasks for name in task.row_group.sample_ids)
        return [task.run() for task in tasks]

    roles, files = seed(0), files_of(order.group, order.cache_space)
    files.ensure(wanted_row_groups(order.group.manifests, roles), roles, decode)
    pixels = files.pixels(roles)
    assert [int(pixels.image(row)[0, 0, 0]) for row in range(len(roles))] == levels(roles)
    return len(missing)


def no_decoding(jobs: Sequence[Job], cpus: int, nodes: Sequence[str]) -> None:
    raise AssertionError("images were decoded")


def test_what_the_store_holds_is_fetched_and_nothing_is_decoded(
    order: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By slices of a row group each: between two of them others may open a group."""
    cluster.ask("a", seed(0))
    monkeypatch.setattr(module, "decode_beside", no_decoding)
    monkeypatch.setattr(module, "SLICE_BYTES", 1)
    bring(order, {"cpus": 2}, GO_ON)
    assert still_missing(order) == 0
    assert order.cache_space.decode_log.seconds_between(0, 1e12) > 0  # rows say that CPUs worked


def test_what_no_node_of_cpus_can_decode_waits_until_the_group_is_opened(
    order: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "decode_beside", no_decoding)
    bring(order, {}, GO_ON)
    assert cluster.folder.records() == []
    assert still_missing(order) == len(seed(0))


def test_nodes_of_cpus_decode_what_the_store_does_not_hold(
    order: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three CPUs are free, two of them there. Each image is decoded once."""
    decoded: list[int] = []

    def decode_beside(jobs: Sequence[Job], cpus: int, nodes: Sequence[str]) -> None:
        assert (cpus, nodes) == (2, ["cpus"])
        for job in jobs:
            decoded.append(job.images)
            run_job(job, cluster.queue)

    monkeypatch.setattr(module, "decode_beside", decode_beside)
    bring(order, {"cpus": 2}, GO_ON)
    assert sum(decoded) == len(seed(0))
    assert still_missing(order) == 0


def test_a_place_that_ends_fetches_no_more(order: Any, cluster: Cluster) -> None:
    cluster.ask("a", seed(0))
    stop = threading.Event()
    stop.set()
    bring(order, {}, stop)
    assert still_missing(order) == len(seed(0))


def test_where_not_all_images_fit_none_is_brought(order: Any, cluster: Cluster) -> None:
    cluster.ask("a", seed(0))
    order.cache_space = CacheSpace(0, 20, order.cache_space.scratch, order.cache_space.session)
    bring(order, {}, GO_ON)
    assert not list(order.cache_space.disk.rglob("*.arrow"))


@dataclass
class Order:
    """A work order by the name of its group."""

    name: str


class Bringing:
    """Stands for `bring`: it waits to be told, and notes what it was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.go_on = threading.Event()
        monkeypatch.setattr(module, "bring", self)
        monkeypatch.setattr(module, "nodes_of_cpus", dict)

    def __call__(self, work_order: Order, nodes: object, stop: threading.Event) -> None:
        self.names.append(work_order.name)
        self.go_on.wait(10)
        raise DataError("the images cannot be used")


def order_of(group: int) -> bytes:
    return pickle.dumps(Order("abc"[group]))


def begin(ahead: Ahead, name: str, wait: bool = True) -> None:
    ahead.begin("abc".index(name))
    if wait and ahead._thread is not None:
        ahead._thread.join(10)


def test_one_group_at_a_time_is_brought_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error ends nothing: it is met again when the group is opened."""
    bringing = Bringing(monkeypatch)
    with closing(Ahead(order_of)) as ahead:
        ahead.begin(None)
        begin(ahead, "a", wait=False)
        begin(ahead, "b", wait=False)  # a is under way
        bringing.go_on.set()
        for name in "aaba":
            begin(ahead, name)
    assert bringing.names == ["a", "b", "a"]


def test_a_place_of_cpus_brings_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bringing = Bringing(monkeypatch)
    with closing(Ahead(order_of, is_on=False)) as ahead:
        begin(ahead, "a")
    assert bringing.names == []
