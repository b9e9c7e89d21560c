"""The progress of a grid, as `lotus-ray status` prints it."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lotus_ray.base.errors import RUN_AGAIN, SOME_CELLS_FAILED
from lotus_ray.base.timestamps import in_words
from lotus_ray.grid.status_files import GROUP_FIELDS

DONE, FAILED, RUNNING, MISSING = "done", "failed", "running", "missing"
STATES = (DONE, FAILED, RUNNING, MISSING)


@dataclass(frozen=True)
class CellStatus:
    """State of one planned cell."""

    cell_id: str
    method: str
    label: str  # the method's name in a report: LoTUS(alpha=8)
    group: tuple[Any, ...]  # benchmark, model, setting, seed
    state: str  # done, failed, running or missing
    attempts: int
    since_seconds: float | None = None  # how long it has been running
    place: str = ""  # that runs it
    seconds: float = 0.0  # how long it took, from its row
    error: str = ""  # status and first line of the error of a failed cell

    def to_plain(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        own = {name: value for name, value in vars(self).items() if name != "group"}
        return dict(zip(GROUP_FIELDS, self.group, strict=True)) | own


@dataclass(frozen=True)
class GridStatus:
    """The last grid of a store."""

    store: str
    state: str  # running, silent, interrupted, ended, or unknown without an outcome file
    cells: tuple[CellStatus, ...]
    others: int  # rows of cells that this grid did not plan
    unnamed: int  # planned cells that an old outcome file counts but does not name
    begun_seconds: float | None  # ago
    sign_seconds: float | None  # since the last sign of life
    error: str | None

    def count(self, state: str) -> int:
        """Return how many cells have a state: done, failed, running or missing."""
        named = sum(cell.state == state for cell in self.cells)
        return named + (self.unnamed if state == MISSING else 0)

    @property
    def total(self) -> int:
        """Number of cells of the grid."""
        return len(self.cells) + self.unnamed

    @property
    def next_command(self) -> str:
        """The next command to run."""
        store = shlex.quote(self.store)
        if self.state == "running":
            return f"lotus-ray status {store}"
        if self.count(MISSING) or not self.total:
            return f"lotus-ray grid JOB.yaml --store {store}   (committed cells are kept)"
        if self.count(FAILED):
            return f"lotus-ray grid JOB.yaml --store {store} --retry-failed"
        return f"lotus-ray report {store}"

    @property
    def exit_code(self) -> int:
        """0 if all cells are committed, 75 if some are missing or run, 4 if some failed."""
        if self.count(MISSING) or self.count(RUNNING) or not self.total:
            return RUN_AGAIN
        return SOME_CELLS_FAILED if self.count(FAILED) else 0

    def to_plain(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "store": self.store,
            "state": self.state,
            "begun_seconds_ago": self.begun_seconds,
            "sign_of_life_seconds_ago": self.sign_seconds,
            "total": self.total,
            **{state: self.count(state) for state in STATES},
            "other_rows": self.others,
            "cell_seconds": sum(cell.seconds for cell in self.cells),
            "error": self.error,
            "cells": [cell.to_plain() for cell in self.cells],
            "next": self.next_command,
        }

    def to_text(self) -> str:
        """Return lines for people."""
        lines = [f"{self.store}: {self._headline()}"]
        for group, members in groupby(self.cells, key=lambda cell: cell.group):
            lines += _group_lines(group, list(members))
        counts = ", ".join(f"{self.count(state)} {state}" for state in STATES)
        spent = sum(cell.seconds for cell in self.cells)
        lines.append(f"{self.total} cells: {counts}; {spent:.1f} s in committed cells")
        if self.others:
            lines.append(f"{self.others} more rows belong to other grids")
        if self.error:
            lines.append(f"error: {self.error.splitlines()[0]}")
        return "\n".join([*lines, f"next: {self.next_command}"])

    def _headline(self) -> str:
        ago = "" if self.begun_seconds is None else f", begun {in_words(self.begun_seconds)} ago"
        sign = "" if self.sign_seconds is None else in_words(self.sign_seconds)
        if self.state == "silent":
            return f"running{ago}, but without a sign of life for {sign}: it is probably dead"
        if self.state == "running":
            return f"running{ago}, last sign of life {sign} ago"
        return f"{self.state}{ago}" if self.state != "unknown" else "no grid command has run here"


def _group_lines(group: tuple[Any, ...], cells: list[CellStatus]) -> list[str]:
    """Return a line for a group, and one for each cell that runs, failed or was interrupted."""
    counts = Counter(cell.state for cell in cells)
    *names, seed = group
    count = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    lines = [f"{', '.join(map(str, names))}, seed {seed}: {count} of {len(cells)}"]
    for cell in cells:
        tries = f", attempt {cell.attempts}" if cell.attempts > 1 else ""
        if cell.state == RUNNING:
            where = f" at place {cell.place}" if cell.place else ""
            since = in_words(cell.since_seconds or 0)
            lines.append(f"  running  {cell.label}{where}, for {since}{tries}")
        elif cell.state == FAILED:
            lines.append(f"  failed   {cell.label} ({cell.cell_id}): {cell.error}{tries}")
        elif cell.state == MISSING and cell.attempts:
            lines.append(f"  cut off  {cell.label}{tries}")
    return lines
