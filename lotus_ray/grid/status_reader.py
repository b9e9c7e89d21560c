"""Read the progress of a grid from its store.

The outcome file lists the planned cells, rows show which are done, attempt markers show which have
begun. A running command writes the heartbeat file every HEARTBEAT_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lotus_ray.base.timestamps import unix_seconds
from lotus_ray.grid.status import DONE, FAILED, MISSING, RUNNING, CellStatus, GridStatus
from lotus_ray.grid.status_files import (
    SILENT_SECONDS,
    OutcomeFile,
    PlannedCell,
    json_object,
    read_heartbeat,
)
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

Marker = Mapping[str, Any]


def status(store: Store, now: float | None = None) -> GridStatus:
    """Read the progress of the last grid of a store.

    Args:
        store: the metric store.
        now: seconds since 1970; default the present time.

    Raises:
        StoreError: there is no store, or it cannot be read.
    """
    store.check_exists()
    now = time.time() if now is None else now
    outcome, rows, attempts = OutcomeFile.read(store), store.rows(), store.markers()
    planned = outcome.planned or [PlannedCell.of_row(row) for row in rows.values()]
    ids = {cell.cell_id for cell in planned}
    markers = _newest_markers(store, {id_: attempts.get(id_, []) for id_ in ids}, rows)
    times = [marker.get("begun_at") for marker in markers.values()]
    times += [rows[cell_id].committed_at for cell_id in ids if cell_id in rows]
    sign = _newest(outcome.written_at, read_heartbeat(store), *times)
    begun = unix_seconds(outcome.begun_at)
    is_silent = sign is None or now - sign > SILENT_SECONDS
    state = "silent" if outcome.state == "running" and is_silent else outcome.state
    running_since = _running_since(markers, begun) if state == "running" else {}
    return GridStatus(
        store=store.uri,
        state=state,
        cells=tuple(
            _cell_status(
                cell,
                rows.get(cell.cell_id),
                len(attempts.get(cell.cell_id, ())),
                _ago(running_since.get(cell.cell_id), now),
                str(markers.get(cell.cell_id, {}).get("place", "")),
            )
            for cell in planned
        ),
        others=sum(cell_id not in ids for cell_id in rows),
        unnamed=max(outcome.cells - len(planned), 0),
        begun_seconds=_ago(begun, now),
        sign_seconds=_ago(sign, now),
        error=outcome.error,
    )


def _cell_status(
    cell: PlannedCell, row: Row | None, attempts: int, running_seconds: float | None, place: str
) -> CellStatus:
    """Return the state of a cell. `running_seconds` is None unless it runs, at `place`."""
    if running_seconds is not None:
        state = RUNNING
    elif row is None:
        state = MISSING
    else:
        state = DONE if row.is_ok else FAILED
    return CellStatus(
        cell_id=cell.cell_id,
        method=cell.method,
        label=cell.label,
        group=cell.group,
        state=state,
        attempts=attempts,
        since_seconds=running_seconds,
        place=place if state == RUNNING else "",
        seconds=row.total_seconds if row is not None else 0.0,
        error=f"{row.status}: {row.first_error_line}" if row and state == FAILED else "",
    )


def _running_since(markers: Mapping[str, Marker], begun: float | None) -> dict[str, float]:
    """Return when each running cell began, by cell id.

    Attempts that are older than the command do not run any more.
    """
    times = {cell_id: unix_seconds(marker.get("begun_at")) for cell_id, marker in markers.items()}
    return {
        cell_id: at
        for cell_id, at in times.items()
        if at is not None and (begun is None or at >= begun)
    }


def _newest_markers(
    store: Store, attempts: Mapping[str, list[str]], rows: Mapping[str, Row]
) -> dict[str, Marker]:
    """Return the newest marker of each cell that is later than its row, by cell id."""
    names = {id_: _maybe_later(names, rows.get(id_)) for id_, names in attempts.items()}
    contents = store.find_all(name for candidates in names.values() for name in candidates)
    newest: dict[str, Marker] = {}
    for cell_id, candidates in names.items():
        markers = [json_object(contents.get(name)) for name in candidates]
        row = rows.get(cell_id) or Row()
        since = unix_seconds(row.committed_at) or 0
        later = [m for m in markers if (unix_seconds(m.get("begun_at")) or -1) >= since]
        if later:
            newest[cell_id] = max(later, key=lambda marker: str(marker["begun_at"]))
    return newest


def _maybe_later(names: list[str], row: Row | None) -> list[str]:
    """Return the names of a cell's markers that may be later than its row."""
    if row is None:
        return names
    if len(names) <= row.attempts:
        return []  # no attempt began after the row
    return [name for name in names if name.split("/")[2] != row.attempt_id]


def _newest(*times: object) -> float | None:
    """Return the latest of some times that can be read, in seconds since 1970."""
    return max((at for time in times if (at := unix_seconds(time)) is not None), default=None)


def _ago(at: float | None, now: float) -> float | None:
    return None if at is None else max(now - at, 0.0)
