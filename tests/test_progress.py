from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from lotus_ray.progress import Progress


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


def test_a_line_about_nodes_is_no_cell_and_lanes_are_counted_down() -> None:
    book, stream = Book(), io.StringIO()
    progress = Progress([_todo(book, "X", "a"), _todo(book, "Y", "a")], book, stream, 60)  # type: ignore[arg-type]
    with progress:
        progress.say("waiting for nodes")
        assert progress.first_cell_after is None
        assert progress.lanes_left() == 2
        book.status["Xa"] = "ok"
        progress._look()
        assert progress.lanes_left() == 1
    assert stream.getvalue().splitlines()[0].endswith(" s  waiting for nodes")
