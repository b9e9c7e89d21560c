"""One line of a table, and the lines that stand in one table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from lotus_ray.report.columns import IN_TABLES
from lotus_ray.store.row import Row

Interval = tuple[float, float]


def workers_of(row: Row) -> str:
    """Return how many workers a cell had, of each attempt where that changed: 2 then 1."""
    used = row.resources.workers_by_attempt or [row.resources.workers or 1]
    return " then ".join(str(workers) for workers, _ in groupby(used))


@dataclass(frozen=True)
class Entry:
    """One line of a table. `values[metric]` holds a value for each seed that has one."""

    benchmark: str
    model: str
    setting: str
    method: str  # as the table calls it: LoTUS(alpha=8)
    rows: dict[int, Row] = field(default_factory=dict)  # by seed, failed ones too
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    undefined: dict[str, dict[int, str]] = field(default_factory=dict)  # why, by metric and seed
    older: list[str] = field(default_factory=list)  # cells of earlier metrics, not shown
    intervals: dict[str, dict[int, Interval]] = field(default_factory=dict)  # 95 %, over samples

    @property
    def name(self) -> str:
        """Return the method's name in jobs: lotus."""
        return str(self._spec["name"])

    @property
    def label(self) -> str:
        """Return the method's name in published tables, without what tells variants apart.

        SalUn + LoTUS is a variant of SalUn.
        """
        return next(iter(self.rows.values())).method.partition(" + ")[0]

    @property
    def is_gold(self) -> bool:
        """Return whether this is the gold standard that the others are compared with."""
        return self.name == "gold" and self._spec.get("training_seed") is None

    @property
    def is_second_gold(self) -> bool:
        """Return whether this is a gold standard of another training seed: the noise floor."""
        return self.name == "gold" and not self.is_gold

    @property
    def is_rival(self) -> bool:
        """Return whether this is an unlearning method, not a control."""
        return self.name not in ("original", "gold")

    @property
    def unchanged(self) -> list[int]:
        """Return the seeds for which a rival gives every image the original's output."""
        changed = self.values.get("outputs_changed", {}) if self.is_rival else {}
        return sorted(seed for seed, share in changed.items() if share == 0)

    @property
    def failures(self) -> dict[int, str]:
        """Return how each failed seed failed: its status and the first line of its error."""
        return {seed: row.failure for seed, row in self.rows.items() if not row.is_ok}

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds, or None."""
        values = list(self.values.get(metric, {}).values())
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Return the sample standard deviation over seeds, or None where fewer than two."""
        values = list(self.values.get(metric, {}).values())
        return statistics.stdev(values) if len(values) > 1 else None

    def n(self, metric: str) -> int:
        """Return the number of seeds that have a value."""
        return len(self.values.get(metric, {}))

    @property
    def _spec(self) -> Mapping[str, Any]:
        spec: Mapping[str, Any] = next(iter(self.rows.values())).spec["method"]
        return spec


@dataclass(frozen=True)
class Group:
    """The lines of one table: a benchmark × model × setting."""

    benchmark: str
    model: str
    setting: str
    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        """Return a heading for people."""
        return f"{self.benchmark}, {self.model}, {self.setting}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of a table for people; the distance if any row has it."""
        has_distance = any(entry.n("distance") for entry in self.entries)
        return (*IN_TABLES, "distance") if has_distance else IN_TABLES

    @property
    def rivals(self) -> list[Entry]:
        """Return the unlearning methods."""
        return [entry for entry in self.entries if entry.is_rival]

    @property
    def gold(self) -> Entry | None:
        """Return the gold standard, where there is one alone."""
        golds = [entry for entry in self.entries if entry.is_gold]
        return golds[0] if len(golds) == 1 else None

    @property
    def second_golds(self) -> list[Entry]:
        """Return the gold standards of other training seeds."""
        return [entry for entry in self.entries if entry.is_second_gold]


def groups(entries: Iterable[Entry]) -> list[Group]:
    """Return the tables that entries, in their order, make up."""
    parted = groupby(entries, key=lambda entry: (entry.benchmark, entry.model, entry.setting))
    return [Group(*key, tuple(members)) for key, members in parted]
