"""Read and write the files in a store that show other commands the progress of a grid.

A missing, torn or older file is read as far as possible.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from lotus_ray.base.timestamps import utc_now
from lotus_ray.store.results import Store
from lotus_ray.store.row import Row

OUTCOME = "outcome.json"
HEARTBEAT = "heartbeat.json"
HEARTBEAT_SECONDS = 30
SILENT_SECONDS = 4 * HEARTBEAT_SECONDS  # a command that is silent for longer is probably dead
UNKNOWN = "unknown"
GROUP_FIELDS = ("benchmark", "model", "setting", "seed")


@dataclass(frozen=True)
class PlannedCell:
    """A cell that a grid planned, with its names in reports."""

    benchmark: str
    model: str
    setting: str
    smoke: bool
    cell_id: str
    method: str
    seed: int
    label: str  # the method's name in a report of the full grid: LoTUS(alpha=8)

    @classmethod
    def of_row(cls, row: Row) -> Self:
        """Return the cell of a row."""
        names = {f.name: getattr(row, f.name) for f in fields(cls) if f.name != "label"}
        return cls(**names, label=row.method)

    @classmethod
    def from_json(cls, content: object) -> Self | None:
        """Read an entry of an outcome file; None if it does not name a cell."""
        if not isinstance(content, dict) or not isinstance(content.get("cell_id"), str):
            return None
        if not {"method", *GROUP_FIELDS} <= content.keys():
            return None
        entry = {"smoke": False, "label": content["method"]} | content
        return cls(**{f.name: entry[f.name] for f in fields(cls)})

    @property
    def group(self) -> tuple[Any, ...]:
        """The values of GROUP_FIELDS."""
        return tuple(getattr(self, name) for name in GROUP_FIELDS)


@dataclass(frozen=True)
class OutcomeFile:
    """The record of the last grid command."""

    state: str = UNKNOWN  # running, interrupted (by a signal) or ended
    begun_at: str | None = None  # ISO 8601, like all times
    written_at: str | None = None
    exit_code: int | None = None  # None until the end
    cells: int = 0  # number of cells of the job
    done: int = 0
    failed: int = 0
    stages_seconds: Mapping[str, float] = field(default_factory=dict)
    trials_at_once: int | None = None  # None if nothing ran
    efficiency: float | None = None
    cells_seconds: Sequence[Mapping[str, Any]] = ()  # cell_id, name and seconds of those that ran
    planned: Sequence[PlannedCell] = ()
    error: str | None = None

    @classmethod
    def read(cls, store: Store) -> Self:
        """Read the outcome file of a store.

        Raises:
            StoreError: the store cannot be read.
        """
        content = json_object(store.find(OUTCOME))
        content.setdefault("trials_at_once", content.get("lanes_at_once"))  # its name before 0.2
        cells, error = content.get("cells"), content.get("error")
        content |= {
            "state": str(content.get("state", UNKNOWN)),
            "cells": cells if isinstance(cells, int) else 0,
            "planned": _planned_cells(content.get("planned")),
            "error": None if error is None else str(error),
        }
        return cls(**{f.name: content[f.name] for f in fields(cls) if f.name in content})

    def write(self, store: Store) -> None:
        """Write the outcome file of a store.

        Raises:
            StoreError: the store cannot be written.
        """
        content = asdict(self)
        content["lanes_at_once"] = self.trials_at_once  # its name before 0.2, for one release
        store.replace(OUTCOME, json.dumps(content, indent=1).encode() + b"\n")


def write_heartbeat(store: Store) -> None:
    """Write a sign of life for `lotus-ray status`."""
    store.replace(HEARTBEAT, json.dumps({"at": utc_now()}).encode())


def place_of(store: Store, names: Iterable[str]) -> str:
    """Return the place that made the newest of some markers, or no text."""
    markers = [json_object(content) for content in store.find_all(names).values()]
    newest = max(markers, key=lambda marker: str(marker.get("begun_at", "")), default={})
    return str(newest.get("place", ""))


def read_heartbeat(store: Store) -> object:
    """Return the time of the last sign of life, or None if there is none."""
    return json_object(store.find(HEARTBEAT)).get("at")


def json_object(content: bytes | None) -> dict[str, Any]:
    """Parse a small file; return {} if it is missing or torn."""
    try:
        parsed = json.loads(content or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _planned_cells(content: object) -> tuple[PlannedCell, ...]:
    """Read the entries of an outcome file; none if one of them is malformed."""
    entries = content if isinstance(content, list) else []
    cells = [cell for entry in entries if (cell := PlannedCell.from_json(entry)) is not None]
    return tuple(cells) if len(cells) == len(entries) else ()
