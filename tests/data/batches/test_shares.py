"""Who takes which samples of a batch, where each node holds a part of the images."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lotus_ray.base.roles import FORGET, RETAIN, TEST, UNSEEN
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.batches.shares import ANY, Shares, home
from lotus_ray.data.pixels.lookup import Pixels
from lotus_ray.unlearning.contract import Workers
from tests.toy import PLAIN, table

small = settings(max_examples=60, deadline=None)
CPU = torch.device("cpu")


def on_workers(nodes: Sequence[int], run: Callable[[Workers], Any]) -> list[Any]:
    """Run on workers in threads that add up what all hand over."""
    given: list[Tensor] = [torch.zeros(0)] * len(nodes)
    barrier = threading.Barrier(len(nodes))

    def adding(rank: int) -> Callable[[Tensor], Tensor]:
        def add(value: Tensor) -> Tensor:
            given[rank] = value.clone()
            barrier.wait(60)
            total = torch.stack(given).sum(0).to(value.dtype)
            barrier.wait(60)
            return total

        return add

    workers = [Workers(r, len(nodes), adding(r), nodes=tuple(nodes)) for r in range(len(nodes))]
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(run, workers))


def shares_of(nodes: Sequence[int], holder: np.ndarray) -> list[Shares]:
    size = len(nodes)
    return [Shares(Workers(rank, size, nodes=tuple(nodes)), holder) for rank in range(size)]


@small
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 80), st.data())
def test_a_batch_is_dealt_once_in_plain_sizes_to_those_who_hold_it(
    drawn: list[int], more: int, data: st.DataObject
) -> None:
    """What goes to a node that does not hold it is what others hold beyond their part."""
    nodes = [sorted(set(drawn)).index(node) for node in drawn]
    count = len(nodes) + more
    places = st.lists(st.integers(ANY, max(nodes)), min_size=count, max_size=count)
    holder = np.array(data.draw(places))
    dealt = [shares.of_batch(np.arange(count)) for shares in shares_of(nodes, holder)]
    assert sorted(np.concatenate(dealt).tolist()) == list(range(count))
    assert [len(own) for own in dealt] == [
        len(range(count)[rank :: len(nodes)]) for rank in range(len(nodes))
    ]
    assert all((np.diff(own) > 0).all() for own in dealt)
    foreign = sum(
        int(((holder[own] != ANY) & (holder[own] != node)).sum())
        for own, node in zip(dealt, nodes, strict=True)
    )
    room = np.zeros(max(nodes) + 1, np.int64)
    np.add.at(room, nodes, [len(own) for own in dealt])
    held = np.bincount(holder[holder >= 0], minlength=len(room))
    assert foreign == np.maximum(held - room, 0).sum()


@small
@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(0, 60), st.data())
def test_in_a_pass_each_node_takes_all_that_it_alone_holds(
    drawn: list[int], count: int, data: st.DataObject
) -> None:
    nodes = [sorted(set(drawn)).index(node) for node in drawn]
    places = st.lists(st.integers(ANY, max(nodes)), min_size=count, max_size=count)
    holder = np.array(data.draw(places), np.int64)
    dealt = [shares.of_pass(np.arange(count)) for shares in shares_of(nodes, holder)]
    assert sorted(np.concatenate(dealt).tolist()) == list(range(count))
    for own, node in zip(dealt, nodes, strict=True):
        assert set(holder[own].tolist()) <= {ANY, node}


def test_a_batch_by_hand() -> None:
    """Two nodes, of 2 workers and of 1; six samples: four go to node 0, two to node 1.

    Node 0 holds three and node 1 two; the sample that both hold is the fourth of node 0.
    """
    holder = np.array([0, 1, 0, ANY, 1, 0])
    dealt = [shares.of_batch(np.arange(6)).tolist() for shares in shares_of([0, 0, 1], holder)]
    assert dealt == [[0, 3], [2, 5], [1, 4]]
    # Node 0 holds one too many, its last one.
    holder = np.array([0, 0, 0, 0, 0, 1])
    dealt = [shares.of_batch(np.arange(6)).tolist() for shares in shares_of([0, 0, 1], holder)]
    assert dealt == [[0, 2], [1, 3], [4, 5]]


def test_workers_agree_who_holds_what() -> None:
    """Node 0 misses samples 1 and 3, node 1 sample 0; nobody holds sample 5, both hold 2 and 4.

    So 0 is of node 0, and 1 and 3 are of node 1; 2, 4 and 5 are of any.
    """
    held = np.array([[1, 0, 1, 0, 1, 0], [0, 1, 1, 1, 1, 0]], bool)
    agreed = on_workers(
        [1, 0, 1],
        lambda each: Shares.agreed(each, held[each.node_of[each.rank]], np.arange(6), CPU),
    )
    assert [shares.holder.tolist() for shares in agreed if shares.holder is not None] == [
        [0, 1, ANY, 1, ANY, ANY]
    ] * 3


def test_of_three_nodes_the_home_takes_what_two_hold() -> None:
    """Stored as 0, 1, 2: sample 0 is at home on node 0, which misses it; sample 2 on node 2."""
    held = np.array([[0, 1, 0], [1, 0, 1], [1, 1, 1]], bool)
    agreed = on_workers(
        [0, 1, 2], lambda each: Shares.agreed(each, held[each.rank], np.arange(3), CPU)
    )
    assert [shares.holder.tolist() for shares in agreed if shares.holder is not None] == [
        [1, 0, 2]
    ] * 3


@pytest.mark.parametrize(("nodes", "held"), [((0, 1), True), ((0, 0), False)])
def test_where_all_hold_all_or_one_node_is_all_shares_are_plain(
    nodes: tuple[int, ...], held: bool
) -> None:
    images = np.array([True, held])
    for shares in on_workers(nodes, lambda each: Shares.agreed(each, images, np.arange(2), CPU)):
        assert shares.holder is None


def test_every_window_has_as_many_samples_of_each_worker() -> None:
    """12 samples that are stored backwards, three workers on two nodes."""
    workers = Workers(0, 3, nodes=(0, 0, 1))
    assert home(np.arange(12)[::-1], workers).tolist() == [1, 0, 0] * 4


ROLES = table("f" * 20 + "r" * 60 + "uutt")


def dataset(rank: int, size: int, window: int | None, parts: bool) -> ImageDataset:
    """Build the set of one worker on a node of its own, which holds its part or everything."""
    pixels = np.random.default_rng(0).integers(0, 256, (84, 3, 2, 2), dtype=np.uint8)
    stored = np.random.default_rng(1).permutation(84)
    workers = Workers(rank, size, nodes=tuple(range(size)))
    holder = np.where(np.isin(np.arange(84), ROLES.indices(RETAIN)), home(stored, workers), ANY)
    shares = Shares(workers, holder) if parts else None
    images = Pixels.of(pixels)
    return ImageDataset(
        images, ROLES, PLAIN, 3, CPU, torch.float64, workers, stored, window, shares
    )


def digest(size: int, window: int | None, parts: bool, ranked: bool) -> str:
    """Return the hash of two epochs and an evaluation pass.

    Args:
        size: workers.
        window: of the order.
        parts: whether each worker's node holds a part.
        ranked: hash what each worker takes, in its order; else each batch, in the order of rows.
    """
    found = hashlib.sha256()
    sets = [dataset(rank, size, window, parts) for rank in range(size)]
    passes = [
        [list(each.split(FORGET, RETAIN).shuffled(16, "train", epoch)) for each in sets]
        for epoch in range(2)
    ]
    if ranked:
        passes.append([list(each.split(UNSEEN, TEST, RETAIN)) for each in sets])
    for of_pass in passes:
        for shares in zip(*of_pass, strict=True):
            rows, images = (torch.cat([getattr(b, n) for b in shares]) for n in ("rows", "images"))
            order = torch.arange(len(rows)) if ranked else rows.argsort()
            found.update(rows[order].numpy().tobytes())
            found.update(images[order].numpy().tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_global_batches_are_golden(size: int, parts: bool) -> None:
    """Bit for bit, at any number of workers, whatever the nodes hold; pinned, so they stay."""
    assert digest(size, None, parts, ranked=False) == "63a7e06a5807d8ce"
    assert digest(size, 32, parts, ranked=False) == "933b760a7cdb38db"


@pytest.mark.parametrize("size", [1, 2, 4])
def test_partners_stay_together_whatever_the_nodes_hold(size: int) -> None:
    """As UNSIR pairs images to forget with retained ones: row i with row i."""
    found: list[set[tuple[int, int]]] = [set(), set()]
    for pairs, workers in zip(found, (1, size), strict=True):
        for rank in range(workers):
            made = dataset(rank, workers, 32, parts=True)
            partners = made.split(RETAIN).draw(20, "a").shuffled(8, "partner")
            for one, other in zip(made.split(FORGET).shuffled(8, "f"), partners, strict=True):
                pairs.update(zip(one.rows.tolist(), other.rows.tolist(), strict=True))
    assert len(found[0]) == 20
    assert found[1] == found[0]


@pytest.mark.parametrize(
    ("size", "exact", "windows"),
    [
        (1, "fd975b5f71ebbb5e", "9f5d2075de8933ff"),
        (2, "15903eeb8b5da730", "7fa497d8bb037871"),
        (4, "b8c94ac3be5c77cd", "8c92c59c2347ec34"),
    ],
)
def test_what_each_worker_takes_is_golden(size: int, exact: str, windows: str) -> None:
    """Where every node holds every image."""
    assert digest(size, None, parts=False, ranked=True) == exact
    assert digest(size, 32, parts=False, ranked=True) == windows
