"""Commit cells in a thread, while the next cell begins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from lotus_ray.trial.cell import RunCell


class Commits:
    """Commits one cell at a time. An original is committed at once: other cells wait for it.

    It is a context. Leave it after the last cell: it waits for the commit.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "commit")
        self._commit: Future[None] | None = None
        self._waiting: RunCell | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self._raise()

    def take(self, cell: RunCell) -> None:
        """Commit an original; keep another cell until `start`. Wait for the commit before it."""
        self.wait()
        if cell.is_original:
            cell.commit()
        else:
            self._waiting = cell

    @property
    def is_due(self) -> bool:
        """True if `take` has kept a cell."""
        return self._waiting is not None

    def start(self, ended: Callable[[Exception | None], None]) -> None:
        """Commit the cell that `take` has kept.

        Args:
            ended: called in the thread, with what the commit raised.

        Raises:
            Exception: that `ended` of an earlier commit has raised.
        """
        self._raise()
        cell, self._waiting = self._waiting, None
        assert cell is not None

        def commit() -> None:
            try:
                cell.commit()
            except Exception as error:
                ended(error)
            else:
                ended(None)

        self._commit = self._thread.submit(commit)

    def wait(self) -> None:
        """Wait until the commit that has been started has ended.

        It raises nothing: the cell that runs now is not the one that is committed.
        """
        if self._commit is not None:
            wait([self._commit])

    def _raise(self) -> None:
        """Wait, and raise what `ended` has raised."""
        commit, self._commit = self._commit, None
        if commit is not None:
            commit.result()
