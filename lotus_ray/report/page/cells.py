"""What the page says of one cell: everything its row holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lotus_ray.report.entries import Entry, Group
from lotus_ray.store.results import OK, Row

_AGAINST_GOLD = ("jsd", "avg_gap", "jsd_x1e4")  # these are not part of the row
_SIMPLE = ("counters", "resources", "versions", "bad_images")
_HEADINGS = {"resources": "device", "bad_images": "bad images"}
_RECORD = ("cell_id", "attempt_id", "attempts", "generation", "resumed_at_phase", "committed_at")


@dataclass(frozen=True)
class Fact:
    """A name and a value at full precision; `more` is its interval, or a reason."""

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
        """Return whether the cell did not fail."""
        return self.status == OK


def anchor_of(row: Row) -> str:
    """Return what a link to the part of a cell names."""
    return "cell-" + re.sub(r"[^A-Za-z0-9_-]", "_", str(row["cell_id"]))


def cells_of(group: Group) -> list[Cell]:
    """Return the cells of a table, by method and seed."""
    return [
        _cell(entry, seed, row)
        for entry in group.entries
        for seed, row in sorted(entry.rows.items())
    ]


def _cell(entry: Entry, seed: int, row: Row) -> Cell:
    error = row.get("error", {})
    found = {
        "metrics": _metrics(entry, seed, row),
        "settings": _flat(row["spec"]),
        "timing": [Fact(name, _number(value)) for name, value in row["timing"].items()],
        **{_HEADINGS.get(name, name): _flat(row.get(name) or {}) for name in _SIMPLE},
        "record": [Fact(name, _number(row[name])) for name in _RECORD if name in row]
        + [Fact("phases", str(len(row.get("phases", []))))],
        "artifacts": [
            Fact(name, f"{kept['bytes']:,} bytes", kept["sha256"])
            for name, kept in row.get("artifacts", {}).items()
        ],
    }
    return Cell(
        anchor_of(row),
        str(row["cell_id"]),
        entry.method,
        str(seed),
        str(row["status"]),
        str(row.get("committed_at", "")),
        {heading: facts for heading, facts in found.items() if facts},
        [str(note) for note in row.get("data_notes", [])],
        _error(error),
        str(error.get("traceback", "")),
    )


def _metrics(entry: Entry, seed: int, row: Row) -> list[Fact]:
    intervals = row.get("intervals", {})
    facts = [
        Fact(
            name,
            _number(value),
            _interval(intervals[name]) if name in intervals else row["undefined"].get(name, ""),
        )
        for name, value in row["metrics"].items()
    ]
    for name in _AGAINST_GOLD:
        value = entry.values.get(name, {}).get(seed)
        if value is not None:
            facts.append(Fact(name, repr(value), "against the gold standard"))
    return facts


def _interval(ends: list[float]) -> str:
    return "95 % over samples: " + " to ".join(_number(end) for end in ends)


def _error(error: Mapping[str, Any]) -> str:
    parts = [str(error[name]) for name in ("type", "message") if error.get(name)]
    return ": ".join(parts)


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
