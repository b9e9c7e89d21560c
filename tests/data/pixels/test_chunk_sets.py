"""Which sets of chunks a store keeps, in a folder and in buckets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from lotus_ray.base.errors import StoreUnreachable
from lotus_ray.data.pixels import chunk_sets as module
from lotus_ray.data.pixels.chunk_sets import IDLE_SECONDS, chunk_sets, chunk_sets_in_use
from lotus_ray.store.results import Store

SESSION, OTHER = "a" * 12, "b" * 12
A, B, C = ("a" * 32, "b" * 32, "c" * 32)
MIB = 1 << 20


@pytest.fixture
def store(place: str) -> Store:
    return Store.open(place)


def fill(store: Store, key: str, size: int, hours: float | None) -> None:
    """Put a chunk of so many bytes into a set that a command used so many hours ago, or never."""
    folder = key.partition("/")[0]
    store.replace(f"pixels/{key}/chunk.json", b"")
    store.replace(f"pixels/{key}/chunk-0.bin", bytes(size))
    if hours is not None:
        note = json.dumps({"at": time.time() - 3600 * hours}).encode()
        store.replace(f"pixels/{folder}/used", note)


def kept(store: Store) -> set[str]:
    return {each.name for each in chunk_sets(store)}


def use(
    store: Store, *keys: str, session: str = SESSION, most: int = 1 << 40
) -> tuple[AbstractContextManager[None], list[str]]:
    lines: list[str] = []
    return chunk_sets_in_use(store, keys, session, most, lines.append), lines


def test_sets_have_sizes_and_the_oldest_is_first(store: Store) -> None:
    for key, size, hours in ((A, 3, 1), (B, 5, 2), (f"{OTHER}/{C}", 7, 0)):
        fill(store, key, size, hours)
    store.replace("pixels/stray", b"no set")
    assert [(each.name, each.size) for each in chunk_sets(store)] == [(B, 5), (A, 3), (OTHER, 7)]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_sets_of_one_command_go_with_it_however_it_ends(
    error: type[BaseException] | None, store: Store
) -> None:
    fill(store, A, 3, None)
    context, lines = use(store, A, f"{SESSION}/{B}")

    def run() -> None:
        with context:
            fill(store, f"{SESSION}/{B}", 5, None)
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(error):
            run()
    assert kept(store) == {A}
    assert not lines  # that is what it is for


def test_the_next_command_removes_what_a_killed_one_left_and_not_what_runs(store: Store) -> None:
    """One was killed an hour ago, another one runs: it said so a quarter of an hour ago."""
    fill(store, f"{OTHER}/{A}", 2 * MIB, 1)
    fill(store, f"{'c' * 12}/{A}", MIB, 0.25)
    fill(store, B, MIB, None)
    context, lines = use(store)
    with context:
        assert kept(store) == {"c" * 12, B}
    assert lines == ["removed decoded images from the store: 2.0 MiB that stopped commands left"]


def test_over_the_limit_the_least_recently_used_idle_sets_go(store: Store) -> None:
    """Of four MiB two may stay. One is in use by another command, one is this command's own."""
    for key, hours in ((A, 3), (B, 0.1), (C, 4), ("d" * 32, 2)):
        fill(store, key, MIB, hours)
    context, lines = use(store, A, most=3 * MIB)
    with context:
        assert kept(store) == {A, B, "d" * 32}
        fill(store, A, 2 * MIB, 0)  # it grows
    assert kept(store) == {A, B}  # in the end too
    why = "that nobody used for longest (decoded_store_gb is 0.00292969)"
    assert lines == [f"removed decoded images from the store: 1.0 MiB {why}"] * 2


def test_what_stopped_commands_left_goes_before_sets_that_may_serve_again(store: Store) -> None:
    fill(store, A, MIB, 4)
    fill(store, f"{OTHER}/{B}", MIB, 1)
    context, lines = use(store, most=MIB)
    with context:
        assert kept(store) == {A}
    assert len(lines) == 1


def test_sets_without_a_note_are_the_oldest_and_empty_ones_go(store: Store) -> None:
    fill(store, A, MIB, None)
    fill(store, B, MIB, 5)
    fill(store, C, 0, 5)
    context, _ = use(store, most=MIB)
    with context:
        assert kept(store) == {B}


def test_a_set_that_somebody_begins_to_use_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command says so after the sets were listed."""
    fill(store, A, MIB, 2)
    listed: Callable[[Store], list[module.ChunkSet]] = module.chunk_sets

    def list_late(store: Store) -> list[module.ChunkSet]:
        sets = listed(store)
        fill(store, A, MIB, 0)
        return sets

    monkeypatch.setattr(module, "chunk_sets", list_late)
    context, lines = use(store, most=0)
    with context:
        pass
    assert kept(store) == {A}
    assert not lines


def test_a_long_command_says_again_and_again_that_it_uses_its_sets(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NOTE_SECONDS", 0.01)
    context, _ = use(store, A)
    with context:
        fill(store, A, 1, 2 * IDLE_SECONDS / 3600)
        end = time.monotonic() + 20
        while (used := chunk_sets(store)[0]).is_idle(time.time()) and time.monotonic() < end:
            time.sleep(0.01)
        assert not used.is_idle(time.time())


def test_a_store_that_does_not_answer_ends_no_command(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreUnreachable("no answer")

    ran = []
    for name in ("replace", "find", "find_all", "remove_all"):
        monkeypatch.setattr(store, name, fail)
    context, _ = use(store, f"{SESSION}/{A}")
    with context:
        ran.append(True)
    assert ran
