"""A commit overlaps the next cell; an original's does not. No Ray, no store."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from lotus_ray.base.errors import StoreError
from lotus_ray.cluster.commits import Commits
from lotus_ray.trial.cell import RunCell


class Cell:
    """A cell whose commit ends when the test says so."""

    def __init__(self, is_original: bool = False, error: Exception | None = None) -> None:
        self.is_original = is_original
        self.may_end = threading.Event()
        self.committed = False
        self._error = error
        if is_original:
            self.may_end.set()

    def commit(self) -> None:
        assert self.may_end.wait(10)
        if self._error:
            raise self._error
        self.committed = True


def take(commits: Commits, cell: Cell) -> None:
    commits.take(cast(RunCell, cell))


def test_an_original_is_committed_before_take_returns() -> None:
    with Commits() as commits:
        original = Cell(is_original=True)
        take(commits, original)
        assert original.committed
        assert not commits.is_due


def test_another_cell_is_committed_while_the_caller_goes_on() -> None:
    ends: list[Any] = []
    first, second = Cell(), Cell()
    with Commits() as commits:
        take(commits, first)
        assert commits.is_due
        commits.start(ends.append)
        assert not commits.is_due
        assert (first.committed, ends) == (False, [])  # the next cell runs now
        first.may_end.set()
        take(commits, second)  # waits for the first
        assert (first.committed, ends) == (True, [None])
        second.may_end.set()
        commits.start(ends.append)
    assert second.committed  # the end waits for the last
    assert ends == [None, None]


def test_what_a_commit_raises_is_told_and_the_next_cell_is_not_hindered() -> None:
    ends: list[Any] = []
    error = StoreError("the bucket is full")
    with Commits() as commits:
        cell = Cell(error=error)
        cell.may_end.set()
        take(commits, cell)
        commits.start(ends.append)
        commits.wait()
        assert ends == [error]
        commits.wait()  # nothing is left


def test_what_nobody_can_handle_ends_the_worker_and_hinders_no_cell() -> None:
    """The next cell waits for the commit while it runs: it would get the blame."""

    def fails(error: Exception | None) -> None:
        raise AssertionError(error)

    commits, cell = Commits(), Cell(error=ValueError("a fault of ours"))
    cell.may_end.set()
    take(commits, cell)
    commits.start(fails)
    commits.wait()
    take(commits, Cell())
    with pytest.raises(AssertionError, match="a fault of ours"):
        commits.start(fails)
