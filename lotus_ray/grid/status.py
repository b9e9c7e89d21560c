"""How far a grid is, and how `lotus-ray status` says it."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lotus_ray.base.timestamps import in_words

DONE, FAILED, RUNNING, MISSING = "done", "failed", "running", "missing"
STATES = (DONE, FAILED, RUNNING, MISSING)
GROUP_FIELDS = ("benchmark", "model", "setting", "seed")


@dataclass(frozen=True)
class CellStatus:
    """One planned cell: what it is, and how far."""

    cell_id: str
    method: str
    label: str  # of the method as a report has it: LoTUS(alpha=8)
    group: tuple[Any, ...]  # benchmark, model, setting, seed
    state: str  # done, failed, running or missing
    attempts: int
    since_seconds: float | None = None  # a running one
    seconds: float = 0.0  # of its row
    error: str = ""  # of a failed one: its status and the first line of its error

    def to_plain(self) -> dict[str, Any]:
        """Return what `--json` prints of it."""
        own = {name: value for name, value in vars(self).items() if name != "group"}
        return dict(zip(GROUP_FIELDS, self.group, strict=True)) | own


@dataclass(frozen=True)
class GridStatus:
    """The last grid of a store."""

    store: str
    state: str  # running, silent, interrupted, ended, or unknown where no command has left word
    cells: tuple[CellStatus, ...]
    others: int  # rows of cells that this grid did not plan
    unnamed: int  # planned cells that an outcome file of an older version counts and does not name
    begun_seconds: float | None  # ago
    sign_seconds: float | None  # since the last sign of life
    error: str | None

    def count(self, state: str) -> int:
        """Return how many cells are done, failed, running or missing."""
        named = sum(cell.state == state for cell in self.cells)
        return named + (self.unnamed if state == MISSING else 0)

    @property
    def total(self) -> int:
        """Return how many cells the grid has."""
        return len(self.cells) + self.unnamed

    @property
    def next_command(self) -> str:
        """Return what to do now."""
        store = shlex.quote(self.store)
        if self.state == "running":
            return f"lotus-ray status {store}"
        if self.count(MISSING) or not self.total:
            return f"lotus-ray grid JOB.yaml --store {store}   (what is committed is kept)"
        if self.count(FAILED):
            return f"lotus-ray grid JOB.yaml --store {store} --retry-failed"
        return f"lotus-ray report {store}"

    def to_plain(self) -> dict[str, Any]:
        """Return what `--json` prints."""
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
        """Return what people read."""
        lines = [f"{self.store}: {self._headline()}"]
        for group, members in groupby(self.cells, key=lambda cell: cell.group):
            lines += _group_lines(group, list(members))
        counts = ", ".join(f"{self.count(state)} {state}" for state in STATES)
        spent = sum(cell.seconds for cell in self.cells)
        lines.append(f"{self.total} cells: {counts}; {spent:.1f} s in committed cells")
        if self.others:
            lines.append(f"{self.others} more rows are not of this grid")
        if self.error:
            lines.append(f"error: {self.error.splitlines()[0]}")
        return "\n".join([*lines, f"next: {self.next_command}"])

    def _headline(self) -> str:
        ago = "" if self.begun_seconds is None else f", begun {in_words(self.begun_seconds)} ago"
        sign = "" if self.sign_seconds is None else in_words(self.sign_seconds)
        if self.state == "silent":
            return f"it says running{ago}, but no sign of life for {sign}: it is probably dead"
        if self.state == "running":
            return f"running{ago}, last sign of life {sign} ago"
        return f"{self.state}{ago}" if self.state != "unknown" else "no grid has left word here"


def _group_lines(group: tuple[Any, ...], cells: list[CellStatus]) -> list[str]:
    counts = Counter(cell.state for cell in cells)
    *names, seed = group
    count = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    lines = [f"{', '.join(map(str, names))}, seed {seed}: {count} of {len(cells)}"]
    for cell in cells:
        tries = f", attempt {cell.attempts}" if cell.attempts > 1 else ""
        if cell.state == RUNNING:
            lines.append(f"  running  {cell.label}, for {in_words(cell.since_seconds or 0)}{tries}")
        elif cell.state == FAILED:
            lines.append(f"  failed   {cell.label} ({cell.cell_id}): {cell.error}{tries}")
        elif cell.state == MISSING and cell.attempts:
            lines.append(f"  cut off  {cell.label}{tries}")
    return lines
