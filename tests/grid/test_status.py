"""How far a grid is, read from stores in which the test writes down what a grid would."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lotus_ray.base.timestamps import in_words, unix_seconds, utc_now
from lotus_ray.cli.main import main
from lotus_ray.grid.status import GridStatus
from lotus_ray.grid.status_files import HEARTBEAT, OUTCOME, SILENT_SECONDS
from lotus_ray.grid.status_reader import status
from lotus_ray.store.results import Store
from lotus_ray.store.row import OK

NOW = 1_800_000_000.0
LABELS = {"benchmark": "digits", "model": "ResNet18", "setting": "instance_10pct", "smoke": False}


def at(seconds_ago: float) -> str:
    return datetime.fromtimestamp(NOW - seconds_ago, UTC).isoformat(timespec="milliseconds")


class Grid:
    """A store of one grid of cells a0, a1, … (seed 1) and b0, b1, … (seed 2)."""

    def __init__(self, folder: Path, cells: str = "a0 a1 a2 a3 b0 b1") -> None:
        self.store = Store.open(str(folder))
        self.store.check_writable()
        self.planned = [self.entry(cell) for cell in cells.split()]

    @staticmethod
    def entry(cell: str) -> dict[str, Any]:
        seed = {"a": 1, "b": 2}.get(cell[0], 3)
        return {"cell_id": cell, "method": f"Method {cell}", "seed": seed, **LABELS}

    def outcome(self, state: str, begun_ago: float, written_ago: float, **more: Any) -> None:
        content = {"state": state, "begun_at": at(begun_ago), "written_at": at(written_ago)}
        content |= {"cells": len(self.planned), "planned": self.planned, "error": None}
        self.store.replace(OUTCOME, json.dumps(content | more).encode())

    def begin(self, cell: str, ago: float, try_: str = "t1", **more: str) -> None:
        marker = {"cell_id": cell, "attempt_id": try_, "begun_at": at(ago), **more}
        name = f"attempts/{cell}/{try_}/begun.json"
        self.store.objects.create(name, json.dumps(marker).encode())

    def commit(self, cell: str, ago: float, status: str = OK, **more: Any) -> None:
        attempt = self.store.attempt(cell, self.store.next_row_versions()[cell])
        body = {**self.entry(cell), "status": status, "committed_at": at(ago)}
        timing = {"unlearn_seconds": 2.0, "evaluate_seconds": 0.5}
        self.store.commit(attempt, {**body, "timing": timing, **more}, {})

    def look(self) -> GridStatus:
        return status(self.store, NOW)

    def states(self) -> dict[str, str]:
        return {cell.cell_id: cell.state for cell in self.look().cells}


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path / "store")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_running_grid(grid: Grid) -> None:
    """Begun 600 s ago: a0 is done, a1 failed, a2 is at its second try, a3 was never begun."""
    grid.outcome("running", 600, 600)
    grid.begin("a0", 590)
    grid.commit("a0", 500)
    grid.begin("a1", 490)
    grid.commit("a1", 400, "diverged", error={"message": "the loss is NaN\nat step 3"})
    grid.begin("a2", 390, place="1")
    grid.begin("a2", 90, "t2", place="2")
    found = grid.look()
    assert grid.states() == {
        "a0": "done",
        "a1": "failed",
        "a2": "running",
        "a3": "missing",
        "b0": "missing",
        "b1": "missing",
    }
    assert found.to_text().splitlines()[1:] == [
        "digits, ResNet18, instance_10pct, seed 1: 1 done, 1 failed, 1 running, 1 missing of 4",
        "  failed   Method a1 (a1): diverged: the loss is NaN",
        "  running  Method a2 at place 2, for 90 s, attempt 2",
        "digits, ResNet18, instance_10pct, seed 2: 2 missing of 2",
        "6 cells: 1 done, 1 failed, 1 running, 3 missing; 5.0 s in committed cells",
        f"next: lotus-ray status {grid.store.uri}",
    ]
    running = next(cell for cell in found.cells if cell.state == "running")
    assert running.since_seconds == pytest.approx(90)
    assert running.place == "2"
    assert {cell.place for cell in found.cells if cell is not running} == {""}
    assert (found.state, found.sign_seconds) == ("running", pytest.approx(90))
    assert "running, begun 10 min ago, last sign of life 90 s ago" in found.to_text()


def test_cells_go_by_the_label_that_tells_variants_apart(grid: Grid) -> None:
    """An outcome of an older version has none."""
    for entry, epochs in zip(grid.planned, (2, 3), strict=False):
        entry |= {"method": "Finetuning", "label": f"Finetuning(epochs={epochs})"}
    grid.outcome("running", 600, 600)
    grid.begin("a0", 90)
    grid.commit("a1", 400, "diverged", error={"message": "the loss is NaN"})
    grid.begin("a2", 60)
    lines = grid.look().to_text().splitlines()
    assert "  running  Finetuning(epochs=2), for 90 s" in lines
    assert "  failed   Finetuning(epochs=3) (a1): diverged: the loss is NaN" in lines
    assert "  running  Method a2, for 60 s" in lines
    assert grid.look().to_plain()["cells"][0]["method"] == "Finetuning"


def test_a_driver_that_died_is_told_from_one_that_is_busy_with_a_long_cell(grid: Grid) -> None:
    grid.outcome("running", 7200, 7200)
    grid.begin("a0", 720)
    dead = grid.look()
    assert dead.state == "silent"
    assert grid.states()["a0"] == "missing"
    first = dead.to_text().splitlines()[0]
    assert first.endswith("but without a sign of life for 12 min: it is probably dead")
    assert "  cut off  Method a0" in dead.to_text()
    assert dead.next_command.startswith(f"lotus-ray grid JOB.yaml --store {grid.store.uri}")
    grid.store.replace(HEARTBEAT, json.dumps({"at": at(SILENT_SECONDS - 1)}).encode())
    assert grid.look().state == "running"
    assert grid.states()["a0"] == "running"
    grid.store.replace(HEARTBEAT, json.dumps({"at": at(SILENT_SECONDS + 1)}).encode())
    assert grid.look().state == "silent"


def test_a_try_of_an_earlier_command_is_not_running(grid: Grid) -> None:
    grid.begin("a0", 5000)
    grid.begin("a1", 50)
    grid.outcome("running", 100, 100)
    states = grid.states()
    assert (states["a0"], states["a1"]) == ("missing", "running")


def test_a_cell_that_runs_again_is_running_until_its_new_row(grid: Grid) -> None:
    """--force: the row of the first row version is older than the second try."""
    grid.begin("a0", 900)
    grid.commit("a0", 800)
    grid.outcome("running", 100, 100)
    assert grid.states()["a0"] == "done"
    grid.begin("a0", 50, "t2")
    assert grid.states()["a0"] == "running"
    grid.commit("a0", 10)
    assert grid.states()["a0"] == "done"


@pytest.mark.parametrize("state", ["interrupted", "ended"])
def test_nothing_runs_in_a_grid_that_says_it_does_not(grid: Grid, state: str) -> None:
    grid.outcome(state, 100, 50, error="Ray went away\nand more")
    grid.begin("a0", 60)
    found = grid.look()
    assert (found.state, found.count("running"), found.count("missing")) == (state, 0, 6)
    assert found.to_text().splitlines()[0] == f"{grid.store.uri}: {state}, begun 100 s ago"
    assert "error: Ray went away" in found.to_text().splitlines()
    assert "committed cells are kept" in found.next_command


def test_the_next_command_of_a_grid_that_ended(tmp_path: Path) -> None:
    grid = Grid(tmp_path / "my store", "a0 a1")
    grid.outcome("ended", 100, 50)
    grid.commit("a0", 60)
    grid.commit("a1", 60, "oom", error={"message": ""})
    quoted = f"'{grid.store.uri}'"
    again = f"lotus-ray grid JOB.yaml --store {quoted} --retry-failed"
    assert grid.look().next_command == again
    grid.commit("a1", 50)
    assert grid.look().next_command == f"lotus-ray report {quoted}"


def test_rows_of_other_jobs_are_counted_apart(grid: Grid) -> None:
    grid.outcome("ended", 100, 50)
    grid.commit("c7", 60)
    assert (grid.look().others, grid.look().total) == (1, 6)
    assert "1 more rows belong to other grids" in grid.look().to_text()


def test_outcomes_of_older_versions_and_torn_ones_are_read_as_far_as_they_go(grid: Grid) -> None:
    grid.commit("a0", 60)
    old = {"state": "ended", "cells": 4, "done": 1}
    grid.store.replace(OUTCOME, json.dumps(old).encode())
    found = grid.look()
    assert (found.total, found.count("done"), found.count("missing")) == (4, 1, 3)
    grid.store.replace(OUTCOME, b'{"state": "run')
    found = grid.look()
    assert (found.state, found.total) == ("unknown", 1)
    assert "no grid command has run here" in found.to_text()
    grid.store.replace(HEARTBEAT, b"[]")
    assert grid.look().sign_seconds == pytest.approx(60)


def test_the_command_needs_a_store_and_changes_nothing(grid: Grid, tmp_path: Path) -> None:
    grid.outcome("ended", 100, 50)
    grid.commit("a0", 60)
    before = sorted(tmp_path.rglob("*"))
    told = run("status", grid.store.uri)
    assert (told.exit_code, told.stdout.splitlines()[-1][:5]) == (75, "next:")
    plain = json.loads(run("status", grid.store.uri, "--json").stdout)
    assert {name: plain[name] for name in ("state", "total", "done", "missing")} == {
        "state": "ended",
        "total": 6,
        "done": 1,
        "missing": 5,
    }
    assert plain["cells"][0]["cell_id"] == "a0"
    assert plain["cells"][0]["seed"] == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert run("status", tmp_path / "nowhere").exit_code == 5


def test_durations_and_moments() -> None:
    """Each unit from two of it on."""
    seconds = (0, 119, 120, 7199, 7200, 172_800)
    words = ["0 s", "119 s", "2 min", "120 min", "2 h", "2 d"]
    assert [in_words(value) for value in seconds] == words
    assert abs((unix_seconds(utc_now()) or 0) - time.time()) < 5
    assert unix_seconds("2026-01-01T00:00:00+00:00") == 1_767_225_600
    assert unix_seconds(None) is None


ENTRY = Grid.entry("a0")


@pytest.mark.parametrize(
    "planned",
    [
        [{}],
        [None],
        ["a0"],
        {"cell_id": "a0"},
        "a0",
        7,
        [ENTRY, {**ENTRY, "cell_id": ["a1"]}],
        *([{k: v for k, v in ENTRY.items() if k != left}] for left in ENTRY if left != "smoke"),
    ],
)
def test_a_malformed_plan_is_as_good_as_none(tmp_path: Path, planned: object) -> None:
    """What is known then are the rows, and how many cells there are."""
    grid = Grid(tmp_path)
    grid.commit("a0", 10)
    grid.outcome("ended", 60, 5, planned=planned)
    found = grid.look()
    assert (grid.states(), found.total, found.unnamed) == ({"a0": "done"}, 6, 5)
    assert "6 cells: 1 done" in found.to_text()


def test_other_malformed_words_of_a_command_are_no_traceback(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    grid.outcome("ended", 60, 5, planned=[{}], cells="many", error={"a": 1}, begun_at=[])
    assert "0 cells" in grid.look().to_text()


def test_an_outcome_that_cannot_be_read_exits_with_5(tmp_path: Path) -> None:
    grid = Grid(tmp_path)
    (tmp_path / OUTCOME).mkdir()
    result = CliRunner().invoke(main, ["status", str(tmp_path)])
    assert result.exit_code == 5
    assert "the store cannot be read: Is a directory" in result.stderr
    assert str(tmp_path / OUTCOME) in result.stderr
    assert grid.store.exists()
