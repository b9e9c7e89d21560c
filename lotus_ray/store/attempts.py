"""Attempts at cells: a marker records when each attempt began, and on which machine."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lotus_ray.base.timestamps import utc_now
from lotus_ray.store.files import Files


@dataclass(frozen=True)
class Attempt:
    """One attempt at a cell. Its artifacts are in `folder`. Its row would be `row_version`."""

    cell_id: str
    attempt_id: str
    row_version: int

    @property
    def folder(self) -> str:
        """Folder of the attempt's artifacts, relative to the store."""
        return f"attempts/{self.cell_id}/{self.attempt_id}"


class Attempts(Files):
    """A store that records the attempts that began."""

    def attempt(self, cell_id: str, row_version: int) -> Attempt:
        """Return a new attempt at a cell. Does not record it."""
        return Attempt(cell_id, uuid.uuid4().hex[:12], row_version)

    def begin(self, cell_id: str, row_version: int, about: Mapping[str, Any]) -> Attempt:
        """Record that an attempt at a cell starts.

        Args:
            cell_id: the cell.
            row_version: of the row that the attempt may commit.
            about: facts of the machine that it runs on, from `machine_facts`.

        Returns:
            The new attempt.
        """
        attempt = self.attempt(cell_id, row_version)
        ids = {"cell_id": cell_id, "attempt_id": attempt.attempt_id, "row_version": row_version}
        marker = json.dumps({**ids, "begun_at": utc_now(), **about})
        self.objects.create(f"{attempt.folder}/begun.json", marker.encode())
        return attempt

    def attempts(self, cell_id: str) -> int:
        """Return how many attempts at a cell began."""
        return len(self.markers(cell_id).get(cell_id, ()))

    def markers(self, cell_id: str | None = None) -> dict[str, list[str]]:
        """List attempt markers by cell id, in one request.

        Args:
            cell_id: list this cell only; default all.
        """
        names = self.objects.names("attempts/" if cell_id is None else f"attempts/{cell_id}/")
        return by_cell(name for name in names if name.endswith("/begun.json"))

    def resources_by_attempt(
        self, cell_id: str, row_version: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the resources of each attempt at a cell, as in a row, oldest first.

        Args:
            cell_id: the cell.
            row_version: only attempts for this row version; default all.
        """
        markers = [
            _plain(self.objects.read(name)) for name in self.markers(cell_id).get(cell_id, ())
        ]
        wanted = [m for m in markers if row_version in (None, _row_version_of(m, row_version))]
        wanted.sort(key=lambda marker: str(marker.get("begun_at", "")))
        return [{"workers": 1, **marker.get("resources", {})} for marker in wanted]


def by_cell(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names of the form <kind>/<cell>/… by cell id."""
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(name.split("/")[1], []).append(name)
    return grouped


def _row_version_of(marker: Mapping[str, Any], default: int | None) -> int | None:
    """Return the row version of an attempt; markers of format 1 call it a generation."""
    version: int | None = marker.get("row_version", marker.get("generation", default))
    return version


def _plain(content: bytes) -> dict[str, Any]:
    """Parse a small record that has no digest; return {} if it is torn."""
    try:
        record = json.loads(content)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
