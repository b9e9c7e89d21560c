"""The order of an epoch: all at once, or within windows of what is stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lotus_ray.base import seeds
from lotus_ray.data.batches.order import BLOCKS_A_WINDOW, Order, passes

small = settings(max_examples=60, deadline=None)


def order(count: int, window: int | None, seed: int = 0) -> Order:
    """Return the order of samples that are stored from the last row to the first."""
    keys = seeds.sample_keys([f"s{row}" for row in range(count)])
    return Order(keys, seed, np.arange(count)[::-1].copy(), window)


@small
@given(st.integers(1, 200), st.integers(1, 300))
def test_an_epoch_in_windows_meets_every_sample_once(count: int, window: int) -> None:
    rows, windows = order(count, window).epoch(np.arange(count), [count], "train", 0)
    assert sorted(rows.tolist()) == list(range(count))
    assert windows is not None
    assert windows.tolist() == [place // window for place in range(count)]


def test_windows_are_made_of_whole_blocks_as_they_are_stored() -> None:
    """64 samples, windows of 16, blocks of 2: each window is 8 pairs that lie side by side."""
    rows, _ = order(64, 16).epoch(np.arange(64), [64], "train", 0)
    for start in range(0, 64, 16):
        found = {row // 2 for row in rows[start : start + 16].tolist()}
        assert len(found) == BLOCKS_A_WINDOW


def test_windows_come_from_all_over_and_change_with_the_epoch() -> None:
    first, again, other = (
        order(64, 16).epoch(np.arange(64), [64], "train", e)[0] for e in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert set(first[:16].tolist()) != set(other[:16].tolist())
    assert set(first[:16].tolist()) != set(range(48, 64))  # not as they are stored


def test_the_seed_changes_the_order() -> None:
    one, two = (order(64, 16, seed).epoch(np.arange(64), [64], "train", 0)[0] for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_one_window_for_all_is_a_shuffle_of_all() -> None:
    """With a window as large as the set nothing is left of the order of storage but ties."""
    whole, _ = order(40, 40).epoch(np.arange(40), [40], "train", 0)
    exact, none = order(40, None).epoch(np.arange(40), [40], "train", 0)
    assert none is None
    assert np.array_equal(whole, exact)


def test_the_fixed_order_is_that_of_rows_or_that_of_storage() -> None:
    assert order(5, None).fixed(np.arange(5))[0].tolist() == [0, 1, 2, 3, 4]
    rows, windows = order(5, 2).fixed(np.array([0, 1, 3, 4]))
    assert rows.tolist() == [4, 3, 1, 0]
    assert windows is not None
    assert windows.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("window", [None, 4])
def test_what_is_drawn_does_not_depend_on_the_window(window: int | None) -> None:
    expected = order(30, 7).drawn(np.arange(30), "subset", "lotus")
    assert np.array_equal(order(30, window).drawn(np.arange(30), "subset", "lotus"), expected)


def drawn(distinct: int, count: int) -> np.ndarray:
    """Return `count` of so many rows, each as often as any or once more, rising."""
    return np.sort(np.resize(np.arange(distinct), count))


def ends_of(count: int, batch_size: int) -> list[int]:
    return [*range(batch_size, count, batch_size), count]


def test_the_shorter_pass_comes_first() -> None:
    """7 of 3 rows: row 0 three times, the others twice."""
    found = passes(np.array([0, 0, 0, 1, 1, 2, 2]))
    assert [part.tolist() for part in found] == [[0], [0, 1, 2], [0, 1, 2]]
    assert [part.tolist() for part in passes(np.arange(3))] == [[0, 1, 2]]
    assert [part.tolist() for part in passes(np.arange(0))] == [[]]


@pytest.mark.parametrize("window", [None, 500])
@small
@given(st.integers(1, 60), st.integers(1, 300), st.data())
def test_no_batch_holds_two_copies_while_there_are_enough_others(
    window: int | None, distinct: int, count: int, data: st.DataObject
) -> None:
    """Batches up to the number of distinct rows; windows are larger than a pass."""
    batch_size = data.draw(st.integers(1, distinct))
    rows, _ = order(distinct, window).epoch(
        drawn(distinct, count), ends_of(count, batch_size), "partner"
    )
    assert sorted(rows.tolist()) == drawn(distinct, count).tolist()
    for batch in np.split(rows, ends_of(count, batch_size)):
        assert len(set(batch.tolist())) == len(batch)


@small
@given(st.integers(2, 60), st.integers(1, 200), st.integers(1, 20), st.integers(1, 70))
def test_passes_have_windows_of_their_own(
    distinct: int, count: int, window: int, batch_size: int
) -> None:
    """Window numbers rise, and no window holds more than its samples, nor a row twice."""
    rows, windows = order(distinct, window).epoch(
        drawn(distinct, count), ends_of(count, batch_size), "partner"
    )
    assert sorted(rows.tolist()) == drawn(distinct, count).tolist()
    assert windows is not None
    assert set(np.diff(windows).tolist()) <= {0, 1}
    for number in set(windows.tolist()):
        held = rows[windows == number].tolist()
        assert len(held) == len(set(held)) <= window


def test_each_pass_has_an_order_of_its_own() -> None:
    """80 of 40 rows in batches of 1: nothing is moved, and the passes are shuffled otherwise."""
    rows, _ = order(40, None).epoch(drawn(40, 80), ends_of(80, 1), "partner")
    first, second = rows[:40].tolist(), rows[40:].tolist()
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert first == order(40, None).epoch(np.arange(40), [40], "partner")[0].tolist()
