"""One line of a table, and all lines of a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from lotus_ray.report.columns import BUILT_IN, IN_TABLES, METRICS
from lotus_ray.report.setting_words import setting_in_words
from lotus_ray.store.row import Row

Interval = tuple[float, float]


def workers_of(row: Row) -> str:
    """Return a cell's number of workers; if it changed between attempts, each: 2 then 1."""
    used = row.resources.workers_by_attempt or [row.resources.workers or 1]
    return " then ".join(str(workers) for workers, _ in groupby(used))


@dataclass(frozen=True)
class Entry:
    """One line of a table. `values[metric]` holds a value for each seed that has one."""

    benchmark: str
    model: str
    setting: str
    method: str  # name in the table: LoTUS(alpha=8)
    rows: dict[int, Row] = field(default_factory=dict)  # by seed, also failed ones
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    undefined: dict[str, dict[int, str]] = field(default_factory=dict)  # why, by metric and seed
    older: list[str] = field(default_factory=list)  # ids of hidden cells of earlier metrics
    intervals: dict[str, dict[int, Interval]] = field(default_factory=dict)  # 95 %, over samples
    samples: dict[str, int] = field(default_factory=dict)  # the fewest of any seed, by role

    @property
    def name(self) -> str:
        """The method's name in jobs: lotus."""
        return str(self._spec["name"])

    @property
    def label(self) -> str:
        """The method's name in published tables, without the settings of variants.

        SalUn + LoTUS is a variant of SalUn.
        """
        return next(iter(self.rows.values())).method.partition(" + ")[0]

    @property
    def is_gold(self) -> bool:
        """True for the gold standard that the others are compared with."""
        return self.name == "gold" and self._spec.get("training_seed") is None

    @property
    def is_second_gold(self) -> bool:
        """True for a gold standard with another training seed: it gives the noise floor."""
        return self.name == "gold" and not self.is_gold

    @property
    def is_rival(self) -> bool:
        """True for an unlearning method, False for original and gold."""
        return self.name not in ("original", "gold")

    @property
    def unchanged(self) -> list[int]:
        """Return the seeds for which a rival gives every image the original's output."""
        changed = self.values.get("outputs_changed", {}) if self.is_rival else {}
        return sorted(seed for seed, share in changed.items() if share == 0)

    @property
    def failures(self) -> dict[int, str]:
        """Status and first line of the error, by failed seed."""
        return {seed: row.failure for seed, row in self.rows.items() if not row.is_ok}

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds, or None if no seed has a value."""
        values = list(self.values.get(metric, {}).values())
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Return the sample standard deviation over seeds, or None for fewer than two."""
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
        """A heading for people."""
        return f"{self.benchmark}, {self.model}, {self.setting}"

    @property
    def heading(self) -> str:
        """The title with the setting in words."""
        return f"{self.benchmark}, {self.model}: {setting_in_words(self.setting)}"

    @property
    def is_smoke(self) -> bool:
        """True if any cell used a part of its samples, so that no number means anything."""
        return any(row.smoke for entry in self.entries for row in entry.rows.values())

    @property
    def seeds(self) -> list[int]:
        """The seeds with a good row of any method."""
        rows = (row for entry in self.entries for row in entry.rows.items())
        return sorted({seed for seed, row in rows if row.is_ok})

    @property
    def samples(self) -> dict[str, int]:
        """The number of images of each role, as far as the store says; the fewest of any seed."""
        known = [entry.samples for entry in self.entries if entry.samples]
        return {role: min(counts[role] for counts in known) for role in (known[0] if known else ())}

    @property
    def original(self) -> Entry | None:
        """The original; None if there is not exactly one."""
        originals = [entry for entry in self.entries if entry.name == "original"]
        return originals[0] if len(originals) == 1 else None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of a table for people; the distance if any row has it.

        Metrics of plug-ins come last.
        """
        has_distance = any(entry.n("distance") for entry in self.entries)
        measured = {name for entry in self.entries for name in entry.values}
        own = [name for name in METRICS if name not in BUILT_IN and name in measured]
        return (*IN_TABLES, *(["distance"] if has_distance else []), *own)

    @property
    def rivals(self) -> list[Entry]:
        """The unlearning methods."""
        return [entry for entry in self.entries if entry.is_rival]

    @property
    def gold(self) -> Entry | None:
        """The gold standard; None if there is not exactly one."""
        golds = [entry for entry in self.entries if entry.is_gold]
        return golds[0] if len(golds) == 1 else None

    @property
    def second_golds(self) -> list[Entry]:
        """The gold standards with other training seeds."""
        return [entry for entry in self.entries if entry.is_second_gold]


def groups(entries: Iterable[Entry]) -> list[Group]:
    """Group entries to tables. The entries must be sorted."""
    parted = groupby(entries, key=lambda entry: (entry.benchmark, entry.model, entry.setting))
    return [Group(*key, tuple(members)) for key, members in parted]
