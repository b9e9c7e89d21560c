from __future__ import annotations

import io
import json
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.base.timestamps import unix_seconds
from lotus_ray.grid import status_files
from lotus_ray.grid.display.choose import view_for
from lotus_ray.grid.display.state import GridState
from lotus_ray.grid.display.view import View
from lotus_ray.grid.status_files import HEARTBEAT
from lotus_ray.grid.watch import GridWatch
from lotus_ray.store.results import Store
from lotus_ray.store.row import Failure, Row


class Book:
    """A store in which the test writes down what has happened."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.status: dict[str, str] = {}

    def markers(self) -> dict[str, list[str]]:
        return {
            cell_id: [f"{cell_id}/{number}" for number in range(count)]
            for cell_id, count in self.begun.items()
        }

    def find_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Cell Ya runs on a cluster, the others do not."""
        place = {"place": "2"}
        return {name: json.dumps(place if "Ya" in name else {}).encode() for name in names}

    def next_row_versions(self) -> Counter[str]:
        return Counter(dict.fromkeys(self.status, 1))

    def row(self, cell_id: str) -> Row | None:
        return Row(status=self.status[cell_id]) if cell_id in self.status else None


def _work_order(book: Book, name: str, labels: str) -> Any:
    cells = [SimpleNamespace(cell_id=f"{name}{label}", label=label) for label in labels]
    group = SimpleNamespace(cells=cells, name=name)
    missing = [cell for cell in cells if cell.label != "z"]
    return SimpleNamespace(
        group=group,
        row_versions={cell.cell_id: 0 for cell in missing},
        missing_cells=missing,
        is_settled=lambda cell, store: cell.cell_id in book.status,
    )


def test_events_are_told_in_order_and_once() -> None:
    """Groups X (a, b; z is done before) and Y (a): 3 cells. A failed cell counts as done."""
    book, stream = Book(), io.StringIO()
    book.begun["Xa"] = 1  # an attempt of an earlier command
    watch = GridWatch(
        [_work_order(book, "X", "zab"), _work_order(book, "Y", "a")], book, stream, 60
    )  # type: ignore[arg-type]
    with watch:
        watch.look()
        assert stream.getvalue() == ""
        assert watch.first_cell_after is None
        book.begun["Xa"] = 2
        watch.look()
        watch.look()
        book.status["Xa"], book.begun["Xb"], book.begun["Ya"] = "ok", 1, 1
        watch.look()
        book.status["Ya"] = "diverged"
    lines = [line.split("  ")[-1] for line in stream.getvalue().splitlines()]
    assert lines[0] == "a, X: running"
    assert lines[1].startswith("a, X: done; 1/3 cells, about ")
    assert lines[2:4] == ["b, X: running", "a, Y: running at place 2"]
    assert lines[4].startswith("a, Y: diverged; 2/3 cells")
    assert len(lines) == 5
    assert watch.first_cell_after is not None


def test_cells_with_one_label_run_beside_each_other() -> None:
    """Two variants of a method have one label: each is shown until it ends."""
    book = Book()
    work_order = _work_order(book, "X", "ab")
    for cell in work_order.group.cells:
        cell.label = "LoTUS"
    with GridWatch([work_order], book, io.StringIO(), 60) as watch:  # type: ignore[arg-type]
        book.begun = {"Xa": 1, "Xb": 1}
        watch.look()
        book.status["Xa"] = "ok"
        watch.look()
        (group,) = watch.grid_state().groups
        assert list(group.running) == ["Xb"]


def test_a_command_that_runs_leaves_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None in the first half a minute; afterwards one after the other, each a later one."""
    store = Store.open(str(tmp_path))
    with GridWatch([], store, io.StringIO(), 0.01):
        time.sleep(0.1)
    assert store.find(HEARTBEAT) is None
    monkeypatch.setattr(status_files, "HEARTBEAT_SECONDS", 0.02)
    beats = set()
    with GridWatch([], store, io.StringIO(), 0.01):
        for _ in range(100):
            time.sleep(0.02)
            beats.add(store.find(HEARTBEAT))
            if len(beats - {None}) > 1:
                break
    times = [unix_seconds(json.loads(beat)["at"]) for beat in beats if beat]
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
    monkeypatch.setattr(status_files, "HEARTBEAT_SECONDS", 0.0)
    watch = GridWatch([], store, io.StringIO(), 0.01)
    with watch:
        while len(tried) < 3:  # the thread goes on
            time.sleep(0.01)


def test_a_line_about_nodes_is_no_cell_and_groups_are_counted_down() -> None:
    book, stream = Book(), io.StringIO()
    watch = GridWatch([_work_order(book, "X", "a"), _work_order(book, "Y", "a")], book, stream, 60)  # type: ignore[arg-type]
    with watch:
        watch.say("waiting for nodes")
        assert watch.first_cell_after is None
        assert watch.cells_left() == 2
        book.status["Xa"] = "ok"
        watch.look()
        assert watch.cells_left() == 1
    assert stream.getvalue().splitlines()[0].endswith(" s  waiting for nodes")


class Failing:
    """A view that raises, at every call or at those named."""

    def __init__(self, *calls: str) -> None:
        self.calls = calls
        self.was_closed = False

    def _do(self, call: str) -> None:
        if call in self.calls:
            raise ZeroDivisionError(call)

    def say(self, event: str, lasting: str | None = None) -> None:
        self._do("say")

    def draw(self, grid_state: GridState) -> None:
        self._do("draw")

    def close(self) -> None:
        self.was_closed = True
        self._do("close")


@pytest.mark.parametrize("calls", [("say",), ("draw",), ("close",), ("say", "draw", "close")])
def test_a_view_that_raises_gives_way_to_plain_lines(
    calls: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event at which it raises is told all the same."""
    book, stream, failing = Book(), io.StringIO(), Failing(*calls)
    monkeypatch.setattr("lotus_ray.grid.display.fallback.view_for", lambda stream: failing)
    with GridWatch([_work_order(book, "X", "a")], book, stream, 60) as watch:  # type: ignore[arg-type]
        book.begun["Xa"] = 1
        watch.look()
        book.status["Xa"] = "ok"
    assert failing.was_closed
    lines = stream.getvalue().splitlines()
    assert (
        lines[0]
        == f"note: plain lines from here: ZeroDivisionError('{lines[0].split(chr(39))[1]}')"
    )
    if calls != ("close",):
        assert [line.split("  ")[-1] for line in lines[1:]] == [
            "a, X: running",
            "a, X: done; 1/1 cells",
        ]
    assert watch.first_cell_after is not None


def test_no_view_at_all_ends_no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(stream: object) -> View:
        raise ImportError("no rich here")

    monkeypatch.setattr("lotus_ray.grid.display.fallback.view_for", broken)
    book, stream = Book(), io.StringIO()
    with GridWatch([_work_order(book, "X", "a")], book, stream, 60):  # type: ignore[arg-type]
        book.status["Xa"] = "ok"
    assert [line.split("  ")[-1] for line in stream.getvalue().splitlines()] == [
        "note: plain lines from here: ImportError('no rich here')",
        "a, X: done; 1/1 cells",
    ]


def test_a_closed_stream_ends_no_grid() -> None:
    book, stream = Book(), io.StringIO()
    with GridWatch([_work_order(book, "X", "a")], book, stream, 60) as watch:  # type: ignore[arg-type]
        stream.close()
        book.status["Xa"] = "ok"
    assert watch.first_cell_after is not None


def test_a_store_that_is_away_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once. Group Y is seen while X cannot be."""
    book, stream = Book(), io.StringIO()
    row = book.row

    def away(cell_id: str) -> Row | None:
        if cell_id == "Xa":
            raise OSError("stale file handle")
        return row(cell_id)

    with GridWatch(
        [_work_order(book, "X", "a"), _work_order(book, "Y", "a")],
        book,  # type: ignore[arg-type]
        stream,
        60,
    ) as watch:
        book.begun["Ya"] = 1
        book.status["Xa"] = "ok"
        monkeypatch.setattr(book, "row", away)
        watch.look()
        watch.look()
        monkeypatch.setattr(book, "row", row)
        book.status["Ya"] = "ok"
    lines = [line.split("  ")[-1] for line in stream.getvalue().splitlines()]
    assert lines[:2] == [
        "note: the store cannot be read, trying again: stale file handle",
        "a, Y: running at place 2",
    ]
    assert lines[2].startswith("a, X: done; 1/2 cells")
    assert lines[3] == "a, Y: done; 2/2 cells"


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "name"),
    [
        (Terminal, {"TERM": "xterm"}, "LiveTable"),
        (Terminal, {"TERM": "xterm", "CI": "false", "NO_COLOR": "1"}, "LiveTable"),
        (Terminal, {"TERM": "dumb"}, "PlainLines"),
        (Terminal, {}, "PlainLines"),
        (Terminal, {"TERM": "xterm", "CI": "true"}, "PlainLines"),
        (Terminal, {"TERM": "xterm", "TTY_COMPATIBLE": "0"}, "PlainLines"),
        (io.StringIO, {"TERM": "xterm"}, "PlainLines"),
        (io.StringIO, {"TERM": "xterm", "FORCE_COLOR": "1"}, "PlainLines"),
    ],
)
def test_the_table_is_for_terminals(
    stream: type[io.StringIO],
    environment: dict[str, str],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("TERM", "CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    view = view_for(stream())
    view.close()
    assert type(view).__name__ == name


def test_what_the_view_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of two cells: one diverged after 3 s in two stages, one runs."""
    book, stream = Book(), io.StringIO()
    row = Row(status="diverged", timing={"a": 1.0, "b": 2.0}, error=Failure(message="nan\nat"))
    said: list[str | None] = []
    view = Failing()
    view.say = lambda event, lasting=None: said.append(lasting)  # type: ignore[method-assign]
    monkeypatch.setattr("lotus_ray.grid.display.fallback.view_for", lambda stream: view)
    with GridWatch([_work_order(book, "X", "ab")], book, stream, 60) as watch:  # type: ignore[arg-type]
        book.begun["Xa"] = 1
        watch.look()
        assert list(watch.grid_state().groups[0].running) == ["Xa"]
        assert watch.grid_state().seconds_left is None
        book.row = lambda cell_id: row  # type: ignore[method-assign]
        book.status["Xa"], book.begun["Xb"] = "diverged", 1
        watch.look()
        grid_state = watch.grid_state()
        (group,) = grid_state.groups
        assert (group.total, group.done, group.failed) == (2, 1, 1)
        assert group.last == ("a", "diverged", 3.0)
        assert list(group.running) == ["Xb"]
        assert grid_state.seconds_left is not None
    assert said[0] is None
    assert str(said[1]).endswith("s  a, X: diverged: nan")
