"""A row that another machine has committed, and that shows late here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.store.late_row import committed_row
from lotus_ray.store.results import Store


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is slept: no time passes but this."""
    pauses: list[float] = []
    monkeypatch.setattr("lotus_ray.store.late_row.time.sleep", pauses.append)
    monkeypatch.setattr("lotus_ray.store.late_row.time.monotonic", lambda: sum(pauses))
    return pauses


def commit(store: Store, row_version: int) -> None:
    attempt = store.begin("cell", row_version, {})
    store.commit(attempt, {"status": "ok", "method": "LoTUS"}, {})


def at_pause(
    monkeypatch: pytest.MonkeyPatch, slept: list[float], number: int, happens: Callable[[], None]
) -> None:
    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == number:
            happens()

    monkeypatch.setattr("lotus_ray.store.late_row.time.sleep", sleep)


def test_a_row_that_is_there_is_returned_at_once(tmp_path: Path, slept: list[float]) -> None:
    store = Store.open(str(tmp_path))
    commit(store, 0)
    assert committed_row(store, "cell", 0).row_version == 0
    assert slept == []


def test_an_older_row_does_not_serve(
    tmp_path: Path, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path))
    commit(store, 0)
    at_pause(monkeypatch, slept, 3, lambda: commit(store, 1))
    assert committed_row(store, "cell", 1).row_version == 1
    assert slept == [0.2, 0.4, 0.8]


def test_it_is_said_that_a_row_never_shows(tmp_path: Path, slept: list[float]) -> None:
    with pytest.raises(StoreError, match="does not show here for 120 s") as caught:
        committed_row(Store.open(str(tmp_path)), "cell", 0)
    assert str(caught.value.where).endswith("cell cell")
    assert 120 <= sum(slept) <= 130
    assert max(slept) == 5
