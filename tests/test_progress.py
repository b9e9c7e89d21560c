from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lotus_ray import progress as module
from lotus_ray.errors import StoreError
from lotus_ray.progress import Progress
from lotus_ray.status import HEARTBEAT
from lotus_ray.store import Store
from lotus_ray.times import moment


class Book:
    """A store in which the test writes down what has happened."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.status: dict[str, str] = {}

    def attempts(self, cell_id: str) -> int:
        return self.begun.get(cell_id, 0)

    def row(self, cell_id: str) -> dict[str, Any] | None:
        return {"status": self.status[cell_id]} if cell_id in self.status else None


def _todo(book: Book, name: str, labels: str) -> Any:
    cells = [SimpleNamespace(cell_id=f"{name}{label}", label=label) for label in labels]
    lane = SimpleNamespace(cells=cells, name=name)
    return SimpleNamespace(
        lane=lane,
        generations={cell.cell_id: 0 for cell in cells if cell.label != "z"},
        is_settled=lambda cell, store: cell.cell_id in book.status,
    )


def test_events_are_told_in_order_and_once() -> None:
    """Lanes X (a, b; z is done before) and Y (a): 3 cells. A failed cell counts as done."""
    book, stream = Book(), io.StringIO()
    book.begun["Xa"] = 1  # an attempt of an earlier command
    progress = Progress([_todo(book, "X", "zab"), _todo(book, "Y", "a")], book, stream, 60)  # type: ignore[arg-type]
    with progress:
        progress._look()
        assert stream.getvalue() == ""
        assert progress.first_cell_after is None
        book.begun["Xa"] = 2
        progress._look()
        progress._look()
        book.status["Xa"], book.begun["Xb"], book.begun["Ya"] = "ok", 1, 1
        progress._look()
        book.status["Ya"] = "diverged"
    lines = [line.split("  ")[-1] for line in stream.getvalue().splitlines()]
    assert lines[0] == "a, X: running"
    assert lines[1].startswith("a, X: done; 1/3 cells, about ")
    assert lines[2:4] == ["b, X: running", "a, Y: running"]
    assert lines[4].startswith("a, Y: diverged; 2/3 cells")
    assert len(lines) == 5
    assert progress.first_cell_after is not None


def test_a_command_that_runs_leaves_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None in the first half a minute; afterwards one after the other, each a later one."""
    store = Store.open(str(tmp_path))
    with Progress([], store, io.StringIO(), 0.01):
        time.sleep(0.1)
    assert store.find(HEARTBEAT) is None
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.02)
    beats = set()
    with Progress([], store, io.StringIO(), 0.01):
        for _ in range(100):
            time.sleep(0.02)
            beats.add(store.find(HEARTBEAT))
            if len(beats - {None}) > 1:
                break
    times = [moment(json.loads(beat)["at"]) for beat in beats if beat]
    assert len(times) > 1
    assert all(at is not None and abs(time.time() - at) < 60 for at in times)


def test_a_sign_of_life_that_cannot_be_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path))
    tried: list[str] = []

    def full(name: str, content: bytes) -> None:
        tried.append(name)
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "replace", full)
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.0)
    progress = Progress([], store, io.StringIO(), 0.01)
    with progress:
        time.sleep(0.2)
        assert progress._thread.is_alive()
    assert len(tried) > 1
