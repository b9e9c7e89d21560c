"""What a cell's trial does when workers die: no Ray is started here."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from lotus_ray.base.errors import (
    ArtifactDamaged,
    ClusterError,
    DataError,
    StoreError,
    StoreUnreachable,
)
from lotus_ray.cluster.causes import explain
from lotus_ray.cluster.cell_trial import MAX_UNBEGUN, Ticket, run_cell_trial
from lotus_ray.cluster.messages import Ask, Ended, Progress
from lotus_ray.data.prepared.write import prepare
from lotus_ray.data.sources import SOURCES
from lotus_ray.job.cells import Cell
from lotus_ray.job.load import load_job
from lotus_ray.job.plan import plan
from lotus_ray.job.spans import Span
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.store import late_row
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row
from lotus_ray.trial.checkpoints import StoredCheckpoints

JOB = Path(__file__).parent.parent.parent / "jobs" / "digits.yaml"


class Grid:
    """A planned group, its store, and a line to nobody: `moves` says how each submission goes."""

    def __init__(self, folder: Path) -> None:
        manifest = prepare(SOURCES["digits"], folder / "digits")
        planned = plan(load_job(JOB, ["grid.methods=[original, lotus]"]), [manifest])
        self.store = Store.open(str(folder / "store"))
        group = planned.groups[0]
        versions = {cell.cell_id: 0 for cell in group.cells}
        self.work_order = WorkOrder(group, versions, self.store.location)
        self.cell: Cell = group.cells[1]
        self.moves: list[Callable[[], Progress | Ended | None]] = []
        self.submitted = 0
        self.never = 0
        self.begins_at_once = False
        self.original_version = 0

    def submit(self, ask: Ask) -> None:
        assert ask.cell_id == self.cell.cell_id
        self.submitted += 1
        if self.begins_at_once:
            self.store.begin(ask.cell_id, 0, {})

    def follow(self, cell_id: str, seen: Progress | None) -> Progress | Ended | None:
        return self.moves.pop(0)()

    def order(self, group: int) -> bytes:
        return pickle.dumps(self.work_order)

    def dropped(self, cell_id: str, error: Exception | None = None) -> None:
        assert cell_id == self.cell.cell_id
        self.never += 1

    def run(self, **ask: Any) -> list[dict[str, Any]]:
        """Run the trial of the method; return its reports."""
        original = self.work_order.group.original.cell_id
        ticket = Ticket(
            Ask(self.cell.cell_id, 0, 1.0, **ask),
            "LoTUS",
            self.store.location,
            0,
            original,
            self.original_version,
        )
        return list(run_cell_trial(ticket, self))

    # How a submission may go.

    def commits(self) -> Ended:
        attempt = self.store.begin(self.cell.cell_id, 0, {})
        self.store.commit(attempt, {"status": "ok", "method": "LoTUS"}, {})
        return Ended(Span(self.cell.cell_id, "1", 1.0, 2.0))

    def dies(self, *workers: int, checkpoint: bytes = b"", error: Exception | None = None) -> Ended:
        """Begin an attempt with each number of workers, and die in the last."""
        for count in workers or (1,):
            self.store.begin(self.cell.cell_id, 0, {"resources": {"workers": count}})
            time.sleep(0.002)  # moments are kept to the millisecond
        if checkpoint:
            self.store.replace(StoredCheckpoints.file_name(self.cell.cell_id, 0), checkpoint)
        return Ended(error=error, died=True)

    def dies_before_it_begins(self) -> Ended:
        return Ended(died=True)

    @property
    def row(self) -> Any:
        return self.store.row(self.cell.cell_id)


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


def test_a_trial_says_where_its_cell_runs_and_when(grid: Grid) -> None:
    grid.moves = [lambda: Progress("2"), lambda: Progress("3", 4), grid.commits]
    reports = grid.run()
    assert reports[:2] == [{"place": "2", "phase": 0}, {"place": "3", "phase": 4}]
    assert reports[2] == {
        "cell_id": grid.cell.cell_id,
        "place": "1",
        "begin": 1.0,
        "end": 2.0,
        "waited": 0.0,
    }
    assert grid.row.is_ok
    assert grid.run() == []  # a row that is there already
    assert grid.submitted == 1


def test_a_cell_that_kills_its_workers_three_times_fails(grid: Grid) -> None:
    grid.moves = [grid.dies, grid.dies, lambda: grid.dies(error=MemoryError("first"))]
    grid.run()
    assert (grid.submitted, grid.moves) == (3, [])
    assert (grid.row.status, grid.row.error.type) == ("oom", "MemoryError")
    assert grid.row.attempts == 3
    assert grid.never == 1


def test_workers_that_are_killed_leave_a_cause_that_says_so(grid: Grid) -> None:
    grid.moves = [grid.dies] * 3
    grid.run()
    assert "it was killed" in grid.row.error.message


def test_a_cell_that_comes_further_each_time_is_not_given_up(grid: Grid) -> None:
    """Six deaths, each after another checkpoint; then three at the same one, and it fails."""
    further = [lambda n=n: grid.dies(checkpoint=b"%d" % n) for n in range(6)]
    grid.moves = [*further, grid.dies, grid.dies, grid.dies]
    grid.run()
    assert (grid.submitted, grid.row.status) == (9, "failed")
    assert grid.store.objects.names("borders/") == []


def test_growing_is_no_death(grid: Grid) -> None:
    """A cell that was begun anew with 2 and 3 workers died once; then twice more."""
    grid.moves = [lambda: grid.dies(1, 2, 3), lambda: grid.dies(3), lambda: grid.dies(1)]
    grid.run()
    assert (grid.submitted, grid.row.status) == (3, "failed")


def test_a_death_before_the_cell_begins_is_no_fault_of_it(grid: Grid) -> None:
    grid.moves = [grid.dies_before_it_begins] * 5 + [grid.commits]
    grid.run()
    assert (grid.row.status, grid.row.attempts) == ("ok", 1)


def test_a_dispatcher_that_knows_nothing_is_told_again(grid: Grid) -> None:
    grid.moves = [lambda: None, grid.commits]
    grid.run()
    assert grid.submitted == 2


def test_a_dispatcher_that_died_after_the_row_is_told_nothing(grid: Grid) -> None:
    def commits_and_forgets() -> None:
        grid.commits()

    grid.moves = [commits_and_forgets]
    grid.run()
    assert (grid.submitted, grid.moves) == (1, [])
    assert grid.row.is_ok


@pytest.mark.parametrize("wrapped", [False, True])
def test_workers_that_die_of_the_store_fail_no_cell(grid: Grid, wrapped: bool) -> None:
    """However often: it is the trial that ends, with the store's error."""
    error: Exception = StoreUnreachable("HTTP 503")
    if wrapped:
        outer = RuntimeError("a worker ended")
        outer.__cause__ = error
        error = outer
    grid.moves = [lambda: grid.dies(error=error)]
    with pytest.raises(StoreUnreachable, match="HTTP 503"):
        grid.run()
    assert grid.row is None


def test_an_attempt_that_begins_at_once_counts(grid: Grid) -> None:
    """A place may begin before `submit` returns. Three such deaths are enough."""
    grid.begins_at_once = True
    grid.moves = [lambda: Ended(died=True)] * 3
    grid.run()
    assert (grid.submitted, grid.row.status) == (3, "failed")


def test_an_original_that_failed_fails_its_methods_without_a_place(grid: Grid) -> None:
    original = grid.work_order.group.original
    attempt = grid.store.begin(original.cell_id, 0, {})
    grid.store.commit(attempt, {"status": "diverged", "method": "Original"}, {})
    grid.run()
    assert (grid.submitted, grid.never) == (0, 1)
    assert grid.row.error.type == "CellError"
    assert "its original was not trained" in grid.row.error.message


@pytest.mark.parametrize("kind", [StoreUnreachable, ArtifactDamaged, StoreError])
def test_a_store_that_does_not_answer_fails_no_cell(grid: Grid, kind: type[StoreError]) -> None:
    """It ends the trial with the store's own error, so that the same command goes on."""
    grid.moves = [lambda: Ended(error=kind("HTTP 503"))]
    with pytest.raises(kind, match="HTTP 503") as caught:
        grid.run()
    assert caught.value.exit_code == 5
    assert grid.row is None


def test_our_own_error_is_found_below_what_ray_wraps_it_in() -> None:
    """A corrupt image in a Ray Data task reaches the command as itself, with its exit code."""
    ours = DataError("an image cannot be decoded", where="sample x")
    task = RuntimeError("task failed")
    task.__cause__ = ours
    trial = RuntimeError("trial failed")
    trial.cause = task  # type: ignore[attr-defined]
    assert explain(trial, "1 of 1 cells ended early") is ours
    other = explain(RuntimeError("first\nlast line"), "1 of 1 cells ended early")
    assert other.exit_code == 6
    assert "1 of 1 cells ended early: RuntimeError: last line" in str(other)


def test_workers_that_cannot_begin_a_cell_say_why_and_do_not_go_on_for_ever(grid: Grid) -> None:
    """Three times, as where a folder is missing on a node. A killed worker says nothing."""
    grid.moves = [lambda: Ended(error=OSError(2, "no folder"), died=True)] * 2
    grid.moves += [grid.dies_before_it_begins]
    grid.moves += [lambda: Ended(error=OSError(2, "no folder"), died=True)] * 3
    with pytest.raises(ClusterError, match="no folder"):
        grid.run()
    assert grid.moves == []
    assert grid.row is None


def test_a_row_that_shows_late_is_waited_for(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a shared folder: the cell has ended, and this node does not see its row yet."""
    row, hidden = Store.row, [0]

    def shown(store: Store, cell_id: str) -> Row | None:
        hidden[0] -= 1
        return None if hidden[0] >= 0 else row(store, cell_id)

    def commits_elsewhere() -> Ended:
        ended = grid.commits()
        hidden[0] = 4
        return ended

    monkeypatch.setattr(Store, "row", shown)
    slept: list[float] = []
    monkeypatch.setattr("lotus_ray.store.late_row.time.sleep", slept.append)
    grid.moves = [commits_elsewhere]
    assert [report["end"] for report in grid.run()] == [2.0]
    assert (grid.submitted, grid.never) == (1, 0)
    assert slept == [0.2, 0.4, 0.8, 1.6]


@pytest.mark.parametrize("span", [True, False])
def test_a_row_that_never_shows_ends_the_trial(
    grid: Grid, monkeypatch: pytest.MonkeyPatch, span: bool
) -> None:
    """Whether the place ran the cell, or says that its row was there before."""
    monkeypatch.setattr(late_row, "LATE_SECONDS", 0.05)
    monkeypatch.setattr(late_row, "FIRST_PAUSE_SECONDS", 0.01)
    ended = Ended(Span(grid.cell.cell_id, "1", 1.0, 2.0)) if span else Ended()
    grid.moves = [lambda: ended]
    with pytest.raises(StoreError, match="does not show here"):
        grid.run()
    assert grid.moves == []


def test_waiting_for_an_original_is_no_death(grid: Grid) -> None:
    """Each time the cell had begun: four times, then two deaths, then it commits."""

    def waits() -> Ended:
        grid.store.begin(grid.cell.cell_id, 0, {})
        return Ended(pending=True)

    grid.moves = [waits, waits, grid.dies, waits, waits, grid.dies, grid.commits]
    grid.run()
    assert (grid.submitted, grid.moves, grid.row.status) == (7, [], "ok")


def test_workers_that_are_always_killed_before_the_cell_begins_end_its_trial(grid: Grid) -> None:
    """As on machines without the memory to begin. Nobody is at fault of a few such deaths."""
    grid.moves = [grid.dies_before_it_begins] * 20
    with pytest.raises(ClusterError, match="it was killed"):
        grid.run()
    assert len(grid.moves) == 20 - MAX_UNBEGUN
    assert grid.row is None


def test_an_older_row_of_the_original_tells_nothing(grid: Grid) -> None:
    """It failed, and was tried again: its new row shows late, and its place knows that row."""
    original = grid.work_order.group.original
    attempt = grid.store.begin(original.cell_id, 0, {})
    grid.store.commit(attempt, {"status": "failed", "method": "Original"}, {})
    grid.moves = [grid.commits]
    grid.original_version = 1
    grid.run()
    assert grid.row.is_ok
