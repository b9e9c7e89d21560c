"""Read how far a grid is, from its store alone.

The outcome file says what the last command planned, rows say what is done, attempt markers say what
has begun. A running command writes the heartbeat file every HEARTBEAT_SECONDS.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from lotus_ray.base.timestamps import unix_seconds
from lotus_ray.grid.status import (
    DONE,
    FAILED,
    GROUP_FIELDS,
    MISSING,
    RUNNING,
    CellStatus,
    GridStatus,
)
from lotus_ray.grid.status_files import HEARTBEAT, OUTCOME, SILENT_SECONDS
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row


def status(store: Store, now: float | None = None) -> GridStatus:
    """Read how far the last grid of a store is.

    Args:
        store: the metric store.
        now: seconds since 1970; default now.

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
    begun = unix_seconds(outcome.get("begun_at"))
    sign = _newest_moment(
        outcome.get("written_at"),
        _read(store, HEARTBEAT).get("at"),
        *(marker.get("begun_at") for marker in markers.values()),
        *(rows[cell_id].committed_at for cell_id in ids if cell_id in rows),
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
        state = DONE if row.is_ok else FAILED
    return CellStatus(
        cell_id=entry["cell_id"],
        method=entry["method"],
        label=entry.get("label", entry["method"]),
        group=tuple(entry[name] for name in GROUP_FIELDS),
        state=state,
        attempts=attempts,
        since_seconds=None if since is None else max(now - since, 0.0),
        seconds=row.total_seconds if row is not None else 0.0,
        error=_error(row) if row is not None and state == FAILED else "",
    )


def _since(marker: Mapping[str, Any] | None, begun: float | None) -> float | None:
    """Return since when a cell runs; a try that is older than the command runs no more."""
    at = unix_seconds((marker or {}).get("begun_at"))
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
        since = unix_seconds(row.committed_at) or 0
        markers = [
            marker for marker in markers if (unix_seconds(marker.get("begun_at")) or -1) >= since
        ]
        if markers:
            newest[cell_id] = max(markers, key=lambda marker: str(marker["begun_at"]))
    return newest


def _unanswered(names: list[str], row: Row | None) -> list[str]:
    """Return the markers of a cell that may be later than its row."""
    if row is None:
        return names
    if len(names) <= row.attempts:
        return []  # no try was begun since the row
    return [name for name in names if name.split("/")[2] != row.attempt_id]


def _newest_moment(*texts: object) -> float | None:
    return max((at for text in texts if (at := unix_seconds(text)) is not None), default=None)


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
    return {"method", *GROUP_FIELDS} <= entry.keys()


def _count(outcome: Mapping[str, Any]) -> int:
    """Return how many cells an outcome file counts."""
    found = outcome.get("cells")
    return found if isinstance(found, int) else 0


def _of_row(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("cell_id", "method", *GROUP_FIELDS)}


def _error(row: Row) -> str:
    return f"{row.status}: {row.first_error_line}"
