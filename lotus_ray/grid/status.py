"""`lotus-ray status`: how far a grid is, from its store alone.

The outcome file says what the last command planned, rows say what is done, markers of attempts what
was begun. A command that runs leaves a sign of life every HEARTBEAT_SECONDS.
"""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lotus_ray.base.timestamps import in_words, moment
from lotus_ray.store.results import OK, Row, Store

OUTCOME = "outcome.json"
HEARTBEAT = "heartbeat.json"
HEARTBEAT_SECONDS = 30
SILENT_SECONDS = 4 * HEARTBEAT_SECONDS  # from then on a command that says it runs is believed dead
DONE, FAILED, RUNNING, MISSING = "done", "failed", "running", "missing"
_STATES = (DONE, FAILED, RUNNING, MISSING)
_GROUP_FIELDS = ("benchmark", "model", "setting", "seed")


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
        return dict(zip(_GROUP_FIELDS, self.group, strict=True)) | own


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
            **{state: self.count(state) for state in _STATES},
            "other_rows": self.others,
            "cell_seconds": sum(cell.seconds for cell in self.cells),
            "error": self.error,
            "cells": [cell.to_plain() for cell in self.cells],
            "next": self.next_command,
        }

    def to_text(self) -> str:
        """Return what people read."""
        lines = [f"{self.store}: {self._said()}"]
        for group, members in groupby(self.cells, key=lambda cell: cell.group):
            lines += _group_lines(group, list(members))
        counts = ", ".join(f"{self.count(state)} {state}" for state in _STATES)
        spent = sum(cell.seconds for cell in self.cells)
        lines.append(f"{self.total} cells: {counts}; {spent:.1f} s in committed cells")
        if self.others:
            lines.append(f"{self.others} more rows are not of this grid")
        if self.error:
            lines.append(f"error: {self.error.splitlines()[0]}")
        return "\n".join([*lines, f"next: {self.next_command}"])

    def _said(self) -> str:
        ago = "" if self.begun_seconds is None else f", begun {in_words(self.begun_seconds)} ago"
        sign = "" if self.sign_seconds is None else in_words(self.sign_seconds)
        if self.state == "silent":
            return f"it says running{ago}, but no sign of life for {sign}: it is probably dead"
        if self.state == "running":
            return f"running{ago}, last sign of life {sign} ago"
        return f"{self.state}{ago}" if self.state != "unknown" else "no grid has left word here"


def status(store: Store, now: float | None = None) -> GridStatus:
    """Read how far the last grid of a store is.

    Args:
        store: the metric store.
        now: seconds since 1970; default this moment.

    Raises:
        StoreError: there is no store.
    """
    store.check_exists()
    now = time.time() if now is None else now
    outcome = _read(store, OUTCOME)
    rows = store.rows()
    attempts = store.markers()
    planned = _planned(outcome) or [_of_row(row) for row in rows.values()]
    ids = {entry["cell_id"] for entry in planned}
    markers = _newest_markers(store, {id_: attempts.get(id_, []) for id_ in ids}, rows)
    begun = moment(outcome.get("begun_at"))
    sign = _newest_moment(
        outcome.get("written_at"),
        _read(store, HEARTBEAT).get("at"),
        *(marker.get("begun_at") for marker in markers.values()),
        *(rows[cell_id].get("committed_at") for cell_id in ids if cell_id in rows),
    )
    state = str(outcome.get("state", "unknown"))
    if state == "running" and (sign is None or now - sign > SILENT_SECONDS):
        state = "silent"
    lives = state == "running"
    return GridStatus(
        store=store.uri,
        state=state,
        cells=tuple(
            _cell(
                entry,
                rows.get(entry["cell_id"]),
                len(attempts.get(entry["cell_id"], ())),
                _since(markers.get(entry["cell_id"]), begun) if lives else None,
                now,
            )
            for entry in planned
        ),
        others=sum(cell_id not in ids for cell_id in rows),
        unnamed=max(_count(outcome) - len(planned), 0),
        begun_seconds=None if begun is None else max(now - begun, 0.0),
        sign_seconds=None if sign is None else max(now - sign, 0.0),
        error=None if outcome.get("error") is None else str(outcome["error"]),
    )


def _cell(
    entry: Mapping[str, Any], row: Row | None, attempts: int, since: float | None, now: float
) -> CellStatus:
    if since is not None:
        state = RUNNING
    elif row is None:
        state = MISSING
    else:
        state = DONE if row["status"] == OK else FAILED
    return CellStatus(
        cell_id=entry["cell_id"],
        method=entry["method"],
        label=entry.get("label", entry["method"]),
        group=tuple(entry[name] for name in _GROUP_FIELDS),
        state=state,
        attempts=attempts,
        since_seconds=None if since is None else max(now - since, 0.0),
        seconds=sum(row["timing"].values()) if row is not None else 0.0,
        error=_error(row) if row is not None and state == FAILED else "",
    )


def _since(marker: Mapping[str, Any] | None, begun: float | None) -> float | None:
    """Return since when a cell runs; a try that is older than the command runs no more."""
    at = moment((marker or {}).get("begun_at"))
    return None if at is None or (begun is not None and at < begun) else at


def _newest_markers(
    store: Store, attempts: Mapping[str, list[str]], rows: Mapping[str, Row]
) -> dict[str, dict[str, Any]]:
    """Return the newest marker of each cell that its row does not answer, by cell id."""
    names = {id_: _unanswered(names, rows.get(id_)) for id_, names in attempts.items()}
    contents = store.find_all(name for left in names.values() for name in left)
    newest = {}
    for cell_id, left in names.items():
        markers = [_record(contents.get(name)) for name in left]
        row = rows.get(cell_id) or Row()
        since = moment(row.get("committed_at")) or 0
        markers = [marker for marker in markers if (moment(marker.get("begun_at")) or -1) >= since]
        if markers:
            newest[cell_id] = max(markers, key=lambda marker: str(marker["begun_at"]))
    return newest


def _unanswered(names: list[str], row: Row | None) -> list[str]:
    """Return the markers of a cell that may be later than its row."""
    if row is None:
        return names
    if len(names) <= row.get("attempts", 0):
        return []  # no try was begun since the row
    return [name for name in names if name.split("/")[2] != row["attempt_id"]]


def _newest_moment(*texts: object) -> float | None:
    return max((at for text in texts if (at := moment(text)) is not None), default=None)


def _read(store: Store, name: str) -> dict[str, Any]:
    """Return a small record that is no row; empty where there is none, or half of one."""
    return _record(store.find(name))


def _record(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _planned(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what an outcome file says of each cell; nothing where that is not all there."""
    found = outcome.get("planned")
    return found if isinstance(found, list) and all(map(_names_a_cell, found)) else []


def _names_a_cell(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("cell_id"), str):
        return False
    return {"method", *_GROUP_FIELDS} <= entry.keys()


def _count(outcome: Mapping[str, Any]) -> int:
    """Return how many cells an outcome file counts."""
    found = outcome.get("cells")
    return found if isinstance(found, int) else 0


def _of_row(row: Row) -> dict[str, Any]:
    return {name: row.get(name) for name in ("cell_id", "method", *_GROUP_FIELDS)}


def _error(row: Row) -> str:
    first = str(row.get("error", {}).get("message", "")).splitlines() or [""]
    return f"{row['status']}: {first[0]}"


def _group_lines(group: tuple[Any, ...], cells: list[CellStatus]) -> list[str]:
    counts = Counter(cell.state for cell in cells)
    *names, seed = group
    told = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    lines = [f"{', '.join(map(str, names))}, seed {seed}: {told} of {len(cells)}"]
    for cell in cells:
        tries = f", attempt {cell.attempts}" if cell.attempts > 1 else ""
        if cell.state == RUNNING:
            lines.append(f"  running  {cell.label}, for {in_words(cell.since_seconds or 0)}{tries}")
        elif cell.state == FAILED:
            lines.append(f"  failed   {cell.label} ({cell.cell_id}): {cell.error}{tries}")
        elif cell.state == MISSING and cell.attempts:
            lines.append(f"  cut off  {cell.label}{tries}")
    return lines
