"""The part of the page on one cell: everything in its row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lotus_ray.report.entries import Entry, Group
from lotus_ray.store.row import OK, Failure, Row

_AGAINST_GOLD = ("jsd", "avg_gap", "jsd_x1e4")  # comparisons, which are not in the row
_RECORD = ("cell_id", "attempt_id", "attempts", "row_version", "resumed_at_phase", "committed_at")


@dataclass(frozen=True)
class Fact:
    """A name and a value at full precision. `more` is its interval, or why it is undefined."""

    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class Cell:
    """A method × seed of a table."""

    anchor: str
    cell_id: str
    method: str
    seed: str
    status: str
    committed_at: str
    facts: dict[str, list[Fact]] = field(default_factory=dict)  # by heading
    notes: list[str] = field(default_factory=list)
    error: str = ""
    traceback: str = ""

    @property
    def is_good(self) -> bool:
        """True if the cell did not fail."""
        return self.status == OK


def anchor_of(row: Row) -> str:
    """Return the HTML id of the part on a cell."""
    return "cell-" + re.sub(r"[^A-Za-z0-9_-]", "_", row.cell_id)


def cells_of(group: Group) -> list[Cell]:
    """Return the cells of a table, by method and seed."""
    return [
        _cell(entry, seed, row)
        for entry in group.entries
        for seed, row in sorted(entry.rows.items())
    ]


def _cell(entry: Entry, seed: int, row: Row) -> Cell:
    """Return everything in a row, by heading. Empty headings are left out."""
    error = row.error or Failure()
    result = {
        "metrics": _metrics(entry, seed, row),
        "made elsewhere": _flat(row.provenance or {}),
        "settings": _flat(row.spec),
        "timing": [Fact(name, _number(value)) for name, value in row.timing.items()],
        "counters": _flat(row.counters),
        "device": _flat(row.resources.to_json()),
        "versions": _flat(row.versions),
        "bad images": _flat(row.bad_images),
        "record": _record(row),
        "artifacts": [
            Fact(name, f"{kept.bytes:,} bytes", kept.sha256) for name, kept in row.artifacts.items()
        ],
    }
    return Cell(
        anchor_of(row),
        row.cell_id,
        entry.method,
        str(seed),
        row.status,
        row.committed_at or "",
        {heading: facts for heading, facts in result.items() if facts},
        list(row.data_notes),
        ": ".join(filter(None, (error.type, error.message))),
        error.traceback,
    )


def _record(row: Row) -> list[Fact]:
    values = {name: getattr(row, name) for name in _RECORD}
    facts = [Fact(name, _number(value)) for name, value in values.items() if value is not None]
    return [*facts, Fact("phases", str(len(row.phases)))]


def _metrics(entry: Entry, seed: int, row: Row) -> list[Fact]:
    """Return the metrics of a row, then its comparisons with the gold standard."""
    intervals = row.intervals
    facts = [
        Fact(
            name,
            _number(value),
            _interval(intervals[name]) if name in intervals else row.undefined.get(name, ""),
        )
        for name, value in row.metrics.items()
    ]
    for name in _AGAINST_GOLD:
        value = entry.values.get(name, {}).get(seed)
        if value is not None:
            facts.append(Fact(name, repr(value), "against the gold standard"))
    return facts


def _interval(ends: Sequence[float]) -> str:
    return "95 % over samples: " + " to ".join(_number(end) for end in ends)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[Fact]:
    facts: list[Fact] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            facts += _flat(value, f"{prefix}{name}.")
        else:
            facts.append(Fact(f"{prefix}{name}", _number(value)))
    return facts


def _number(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
