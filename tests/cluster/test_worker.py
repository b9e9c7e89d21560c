"""What a place does with its cells, without Ray: answers of the dispatcher are made up.

How long a gold standard waits for its original, what becomes of cells that cannot begin here, and
who is blamed for a commit that fails.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

import ray

from lotus_ray.base.errors import (
    ArtifactDamaged,
    DataError,
    ImagesDoNotFit,
    LotusRayError,
    StoreError,
)
from lotus_ray.cluster import place_line as module
from lotus_ray.cluster import worker
from lotus_ray.cluster.commits import Commits
from lotus_ray.cluster.messages import CLOSE_GROUPS, Claim, Ended
from lotus_ray.cluster.place_line import RESTART_SECONDS, PlaceLine
from lotus_ray.cluster.worker import work
from lotus_ray.job.spans import Span
from lotus_ray.trial.original import OriginalPending
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.position import Position

STEP = 30.0  # seconds between two looks, on the test's clock


class Clock:
    """A clock on which only sleeping takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += STEP


def wait(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    runs: Iterator[bool],
    settled: Iterator[bool],
    failed: bool = False,
) -> float:
    """Wait for an original; return after how many seconds the wait ended."""
    clock, line = Clock(), PlaceLine("1", workers=1)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("lotus_ray.cluster.place_line.ray.get", lambda answer: answer)
    line._dispatcher = SimpleNamespace(
        runs=SimpleNamespace(remote=lambda cell: next(runs)),
        has_failed=SimpleNamespace(remote=lambda cell: failed),
    )
    work_order: Any = SimpleNamespace(
        group=SimpleNamespace(original=SimpleNamespace(cell_id="original")),
        store=str(folder),
        is_settled=lambda cell, store: next(settled),
    )
    line.wait_for_original(work_order)
    return clock.now


def test_an_original_whose_workers_start_again_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It runs, its workers die, nobody runs it for two looks, it runs again, and is committed."""
    runs = iter([True, False, False, True, True])
    settled = iter([False] * 5 + [True])
    assert wait(monkeypatch, tmp_path, runs, settled) == 5 * STEP


def test_an_original_that_an_error_ended_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a full disk: it has no row, and no place will run it."""
    settled = iter([False] * 2)
    with pytest.raises(OriginalPending):
        wait(monkeypatch, tmp_path, iter([True, False]), settled, failed=True)
    assert not list(settled)  # it gave up at the second look


def test_an_original_that_nobody_runs_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never() -> Iterator[bool]:
        while True:
            yield False

    looks = int(RESTART_SECONDS / STEP)
    runs = iter([True] + [False] * (looks + 1))
    with pytest.raises(OriginalPending):
        wait(monkeypatch, tmp_path, runs, never())
    assert next(runs, None) is None  # it gave up at the last look


def test_a_command_that_is_gone_is_no_fault_of_the_gold_standard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its dispatcher is gone, too. Another error would become the row of the cell."""

    def gone() -> Iterator[bool]:
        raise ray.exceptions.RayActorError
        yield True

    with pytest.raises(OriginalPending):
        wait(monkeypatch, tmp_path, gone(), iter([False]))


NO_IMAGES = DataError("no prepared data set here")


class Unlocked:
    """A cache space whose lock is free."""

    def locked(self) -> Any:
        return nullcontext()


class Refused:
    """A cache space that cannot be used."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        raise DataError("decoded images cannot be stored")
        yield


@dataclass
class Order:
    """A work order of cells that are called like their group, and a number."""

    name: str
    cache_space: Any

    @property
    def group(self) -> Any:
        return SimpleNamespace(name=self.name)

    def cell(self, cell_id: str) -> Any:
        return SimpleNamespace(cell_id=cell_id, label=cell_id)


class Place:
    """A place and its dispatcher: groups A and B, of two cells each."""

    def __init__(self, cache_space: Any = None) -> None:
        self.cells = ["A1", "A2", "B1", "B2"]
        self.space = cache_space or Unlocked()
        self.refused_groups: list[str] = []
        self.ends: dict[str, Ended] = {}
        self.lines: list[str] = []
        self.causes: list[Exception] = []
        self.cannot_open: dict[str, Exception] = {}
        self.opened: list[str] = []
        self.open_groups: list[str] = []
        self.log: list[str] = []
        self.brought: list[int | None] = []
        self.following: dict[str, int] = {}
        self.closes_after: set[str] = set()
        self.is_short_of_room = False
        self.loaded: list[list[int]] = []
        self.runs: Callable[[str], None] = lambda cell: None
        self.position, self.tags = Position(), dict[str, str]()
        self.commits = Commits()

    def work(self) -> LotusRayError | None:
        with ExitStack() as locks, self.commits:
            return work(Workers(), self, self, self.commits, locks, bring=self.brought.append)

    # As the line to the dispatcher.

    def order(self, cell_id: str, group: str) -> Claim:
        following = self.following.get(cell_id)
        return Claim(cell_id, "AB".index(group), pickle.dumps(Order(group, self.space)), following)

    def claim(self, loaded: list[int], stays: bool) -> Claim | None:
        assert stays == self.is_short_of_room
        self.loaded.append(loaded)
        if loaded and self.closes_after.intersection(self.ends):
            self.closes_after.clear()
            return CLOSE_GROUPS
        waiting = [cell for cell in self.cells if cell[0] not in self.refused_groups]
        if not waiting:
            return None
        self.cells.remove(waiting[0])
        return self.order(waiting[0], waiting[0][0])

    def refused(self, claim: Claim, error: Exception) -> Claim | None:
        group = "AB"[claim.group]
        self.refused_groups.append(group)
        if claim.cell_id:
            self.cells.append(claim.cell_id)
        other = next((name for name in "AB" if name not in self.refused_groups), None)
        return other and self.order("", other)

    def trained(self) -> None:
        pass

    def ended(self, claim: Claim, ended: Ended) -> None:
        self.log.append(f"ended {claim.cell_id}")
        self.ends[claim.cell_id] = ended

    def fell(self, cause: Exception) -> None:
        self.causes.append(cause)

    def say(self, text: str) -> None:
        self.lines.append(text)

    # As what runs cells.

    def open(self, order: Order) -> LotusRayError | None:
        error = self.cannot_open.get(order.name)
        if error and not isinstance(error, LotusRayError):
            raise error
        self.opened += [] if error else [order.name]
        self.is_short_of_room = bool(self.open_groups)
        self.open_groups = [] if error else [order.name]  # one fits
        return error

    def rest(self) -> None:
        self.log.append("rest")

    def close(self) -> None:
        self.open_groups = []

    def is_open(self, order: Order) -> bool:
        return order.name in self.open_groups

    def run(self, order: Order, cell: Any) -> Span:
        self.commits.wait()  # as before the training on a CPU
        self.runs(cell.cell_id)
        return Span(cell.cell_id, "1", 0.0, 1.0)


def test_a_place_runs_cells_until_there_are_no_more() -> None:
    place = Place()
    assert place.work() is None
    assert list(place.ends) == ["A1", "A2", "B1", "B2"]
    assert all(ended.span for ended in place.ends.values())
    assert place.lines == []


def test_others_may_remove_images_before_they_hear_that_the_cell_has_ended() -> None:
    """Where the images of one group fit, the dispatcher hears that one is loaded."""
    place = Place()
    assert place.work() is None
    assert place.log == [said for cell in place.ends for said in ("rest", f"ended {cell}")]
    assert place.loaded == [[], [0], [0], [1], [1]]


def test_a_place_closes_its_groups_when_others_need_the_room() -> None:
    place = Place()
    place.closes_after = {"A1"}
    assert place.work() is None
    assert list(place.ends) == ["A1", "A2", "B1", "B2"]
    assert place.loaded == [[], [0], [], [0], [1], [1]]


def test_images_without_room_give_the_cell_back_and_the_place_goes_on() -> None:
    """It tries no group without a cell: its node has room again when others have ended."""
    place = Place()
    place.cannot_open = {"A": ImagesDoNotFit("no room")}
    assert place.work() is None
    assert list(place.ends) == ["B1", "B2"]
    assert place.refused_groups == ["A"]
    assert place.opened == ["B", "B"]
    assert place.lines == ["cells of A wait for room: no room"]


def test_the_images_of_the_next_group_are_brought_while_a_cell_runs() -> None:
    """Not before its own group is open: what does not open may not fit."""
    place, seen = Place(), list[int]()
    place.cannot_open, place.following = {"A": NO_IMAGES}, {"B1": 7}
    place.runs = lambda cell: seen.append(len(place.brought))
    assert place.work() is None
    assert place.brought == [None, 7, None]
    assert seen == [2, 3]


@pytest.mark.parametrize("error", [NO_IMAGES, OSError(116, "stale file handle")])
def test_a_place_that_can_open_no_group_gives_its_cell_back_and_ends(error: Exception) -> None:
    """It ends no cell, and tries each group once."""
    place = Place()
    place.cannot_open = {"A": error, "B": error}
    wrong = place.work()
    assert isinstance(wrong, LotusRayError)
    assert (str(error) if isinstance(error, LotusRayError) else "stale file handle") in str(wrong)
    assert (place.ends, place.opened, place.lines) == ({}, [], [])
    assert sorted(place.cells) == ["A1", "A2", "B1", "B2"]
    assert place.refused_groups == ["A", "B"]


def test_a_place_without_the_store_tries_nothing_else() -> None:
    place = Place()
    place.cannot_open = {"A": StoreError("there is none")}
    wrong = place.work()
    assert isinstance(wrong, StoreError)
    assert (place.ends, place.opened) == ({}, [])
    assert sorted(place.cells) == ["A1", "A2", "B1", "B2"]


def test_a_place_that_cannot_open_one_group_runs_the_other() -> None:
    place = Place()
    place.cannot_open = {"A": NO_IMAGES}
    assert place.work() is None
    assert list(place.ends) == ["B1", "B2"]
    assert sorted(place.cells) == ["A1", "A2"]
    assert place.lines == [f"leaves a group of cells to other places: {NO_IMAGES.what}"]


def test_a_node_without_room_for_images_ends_its_place() -> None:
    place = Place(Refused())
    wrong = place.work()
    assert isinstance(wrong, DataError)
    assert "cannot be stored" in wrong.what
    assert (place.ends, place.opened, len(place.cells)) == ({}, [], 4)


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_store_error_ends_the_place_only_if_its_node_sees_the_store_no_more(
    monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    """Else it is the cell's: a file of its original is damaged."""
    place, error = Place(), ArtifactDamaged("changed since it was written")

    def access(order: Order) -> None:
        if is_lost:
            raise StoreError("there is none")

    def runs(cell: str) -> None:
        if cell == "A2":
            raise error

    monkeypatch.setattr(worker, "ensure_access", access)
    place.runs = runs
    wrong = place.work()
    if is_lost:
        assert isinstance(wrong, StoreError)
        assert wrong.what == "there is none"
        assert (list(place.ends), sorted(place.cells)) == (["A1"], ["A2", "B1", "B2"])
    else:
        assert wrong is None
        assert place.ends["A2"] == Ended(error=error)
        assert len(place.ends) == 4


def test_a_cell_whose_original_nobody_trains_has_not_died() -> None:
    place = Place()

    def runs(cell: str) -> None:
        if cell == "A2":
            raise OriginalPending

    place.runs = runs
    assert place.work() is None
    assert place.ends["A2"] == Ended(pending=True)
    assert place.causes == []


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), StoreError("the bucket is full")])
def test_an_error_of_a_commit_is_of_its_own_cell(error: Exception) -> None:
    """The next cell waits for it while it runs, and ends as if nothing had been."""
    place = Place()

    def commit() -> None:
        raise error

    def runs(cell: str) -> None:
        if cell == "A1":
            place.commits.take(SimpleNamespace(is_original=False, commit=commit))

    place.runs = runs
    assert place.work() is None
    is_ours = isinstance(error, LotusRayError)
    assert place.ends["A1"] == Ended(error=error, died=not is_ours)
    assert [place.ends[cell].span is not None for cell in ("A2", "B1", "B2")] == [True] * 3
    assert place.causes == []


def test_an_unexpected_error_of_a_cell_ends_the_worker() -> None:
    """Ray starts another one. The dispatcher knows the cause before."""
    place = Place()

    def runs(cell: str) -> None:
        raise ZeroDivisionError

    place.runs = runs
    with pytest.raises(ZeroDivisionError):
        place.work()
    assert [type(cause) for cause in place.causes] == [ZeroDivisionError]
    assert place.ends == {}


def test_an_error_that_cannot_be_sent_is_sent_as_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")

    sent: list[Ended] = []
    ended = SimpleNamespace(remote=lambda place, cell, ended: sent.append(ended))
    line = PlaceLine("1", workers=1)
    line._dispatcher = SimpleNamespace(ended=ended)
    monkeypatch.setattr("lotus_ray.cluster.place_line.ray.get", lambda answer: answer)
    line.ended(Claim("a", 0, b""), Ended(error=Odd(1, 2), died=True))
    assert str(sent[0].error) == "Odd: odd"
    assert sent[0].died
