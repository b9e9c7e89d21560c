"""Attempts at cells: markers that say what was begun, when and with what."""

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
    """One try at a cell. Its artifacts live under `folder`, its row may become `row version`."""

    cell_id: str
    attempt_id: str
    row_version: int

    @property
    def folder(self) -> str:
        """Return the folder of its artifacts, relative to the store."""
        return f"attempts/{self.cell_id}/{self.attempt_id}"


class Attempts(Files):
    """A store that records which attempts began."""

    def attempt(self, cell_id: str, row_version: int) -> Attempt:
        """Return a new try at a cell without recording that it starts."""
        return Attempt(cell_id, uuid.uuid4().hex[:12], row_version)

    def begin(self, cell_id: str, row_version: int, about: Mapping[str, Any]) -> Attempt:
        """Record that a try at a cell starts, with facts `about` where it runs."""
        attempt = self.attempt(cell_id, row_version)
        ids = {"cell_id": cell_id, "attempt_id": attempt.attempt_id, "row_version": row_version}
        marker = json.dumps({**ids, "begun_at": utc_now(), **about})
        self.objects.create(f"{attempt.folder}/begun.json", marker.encode())
        return attempt

    def attempts(self, cell_id: str) -> int:
        """Return how many tries at a cell were begun."""
        return len(self.markers(cell_id).get(cell_id, ()))

    def markers(self, cell_id: str | None = None) -> dict[str, list[str]]:
        """Return the names of what marks the tries that were begun, by cell id, by one list.

        Args:
            cell_id: the only cell that is asked for; default all.
        """
        names = self.objects.names("attempts/" if cell_id is None else f"attempts/{cell_id}/")
        return by_cell(name for name in names if name.endswith("/begun.json"))

    def resources_by_attempt(
        self, cell_id: str, row_version: int | None = None
    ) -> list[dict[str, Any]]:
        """Return what each try at a cell was begun with, as in a row, the first try first.

        Args:
            cell_id: the cell.
            row version: of the row that the tries were for; default any.
        """
        markers = [
            _plain(self.objects.read(name)) for name in self.markers(cell_id).get(cell_id, ())
        ]
        wanted = [m for m in markers if row_version in (None, _row_version_of(m, row_version))]
        wanted.sort(key=lambda marker: str(marker.get("begun_at", "")))
        return [{"workers": 1, **marker.get("resources", {})} for marker in wanted]


def by_cell(names: Iterable[str]) -> dict[str, list[str]]:
    """Return names of the form <kind>/<cell>/… by their cell."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.split("/")[1], []).append(name)
    return found


def _row_version_of(marker: Mapping[str, Any], default: int | None) -> int | None:
    """Return the row version of an attempt; markers of format 1 call it a generation."""
    version: int | None = marker.get("row_version", marker.get("generation", default))
    return version


def _plain(content: bytes) -> dict[str, Any]:
    """Return a small record that has no digest; empty where it is torn."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
