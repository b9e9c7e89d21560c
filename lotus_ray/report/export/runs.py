"""A store -> one plain record per cell for experiment trackers, from its visible row."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lotus_ray.base.version import VERSION
from lotus_ray.report.collect import collect
from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry
from lotus_ray.report.export.secrets import redact, redact_value
from lotus_ray.store.results import Store
from lotus_ray.store.row import Failure, Row

_SHOWN = {metric.figure for metric in METRICS.values()}


@dataclass(frozen=True)
class CellRun:
    """One cell. Its texts hold no secrets; times are seconds since 1970."""

    benchmark: str
    model: str
    setting: str
    method: str  # name in the report: LoTUS(alpha=8)
    seed: int
    cell_id: str
    row_version: int
    is_ok: bool
    started_at: float
    ended_at: float
    params: dict[str, Any]  # settings by dotted name: text, number or bool
    tags: dict[str, str]
    metrics: dict[str, float]
    phases: list[dict[str, float]]  # in order; not every phase has every value
    failure: str  # empty if the cell is ok

    @property
    def name(self) -> str:
        """A name for people, unique in its experiment."""
        return f"{self.method}, seed {self.seed}"


@dataclass(frozen=True)
class Exported:
    """Result of an export: how many runs are new, updated, replaced or unchanged, and where."""

    runs: Counter[str]
    where: str

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {what}" for what, count in self.runs.items())
        return f"{self.runs.total()} runs{': ' if parts else ''}{parts}: {self.where}"


def runs_of(store: Store) -> list[CellRun]:
    """Return the cells of a store in the order of its report.

    Raises:
        StoreError: an artifact that a comparison with the gold standard needs cannot be read.
    """
    return [
        _run(entry, seed, row)
        for entry in collect(store)
        for seed, row in sorted(entry.rows.items())
    ]


def _run(entry: Entry, seed: int, row: Row) -> CellRun:
    """Return the record of one cell, with its texts redacted."""
    ended_at = _seconds(row.committed_at)
    spent = sum(value for name, value in row.timing.items() if name.endswith("_seconds"))
    is_ok = row.is_ok
    return CellRun(
        benchmark=redact(entry.benchmark),
        model=redact(entry.model),
        setting=redact(entry.setting),
        method=redact(entry.method),
        seed=seed,
        cell_id=redact(row.cell_id),
        row_version=row.row_version,
        is_ok=is_ok,
        started_at=max(ended_at - spent, 0.0),
        ended_at=ended_at,
        params=dict(_flat(row.spec)),
        tags=_tags(entry, seed, row),
        metrics=_metrics(entry, seed, row),
        phases=[_numbers(phase) for phase in row.phases],
        failure="" if is_ok else redact(_failure(row)),
    )


def _tags(entry: Entry, seed: int, row: Row) -> dict[str, str]:
    """Return ids, names, hardware, versions and errors of a cell, redacted."""
    resources = row.resources
    tags = {
        "cell_id": row.cell_id,
        "row_version": row.row_version,
        "generation": row.row_version,  # its old name, for one release
        "status": row.status,
        "benchmark": entry.benchmark,
        "model": entry.model,
        "setting": entry.setting,
        "method": entry.method,
        "seed": row.seed,
        "attempts": row.attempts,
        "smoke": row.smoke,
        "device": resources.device,
        "device_type": resources.device_type,
        "workers": resources.workers,
        **{f"versions.{name}": value for name, value in row.versions.items()},
        "exported_by": f"lotus-ray {VERSION}",
    }
    undefined = [
        f"{name}: {result[seed]}" for name, result in entry.undefined.items() if seed in result
    ]
    if not row.is_ok:
        tags["error"] = _failure(row).splitlines()[0]
    elif undefined:
        tags["undefined"] = "; ".join(undefined)
    return {name: redact(_text(value)) for name, value in tags.items() if value is not None}


def _metrics(entry: Entry, seed: int, row: Row) -> dict[str, float]:
    """Return the metrics of a cell, including those that compare it with the gold standard."""
    metrics = {name: values[seed] for name, values in entry.values.items() if seed in values}
    for name, value in _numbers(row.metrics).items():
        if name not in _SHOWN:
            metrics.setdefault(name, value)
    for name, of_seeds in entry.intervals.items():
        if seed in of_seeds:
            metrics[f"ci95/{name}/low"], metrics[f"ci95/{name}/high"] = of_seeds[seed]
    counters = _numbers(row.counters)
    return metrics | {f"counters/{name}": value for name, value in counters.items()}


def _failure(row: Row) -> str:
    error = row.error or Failure()
    return f"{row.status}: {error.type}: {error.message}"


def _flat(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a cell by dotted name; lists and null as JSON."""
    for key, value in spec.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            plain = value if isinstance(value, str | int | float) else json.dumps(value)
            yield redact(name), redact_value(name, plain)


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {
        redact(name): float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _seconds(moment: str | None) -> float:
    """Return an ISO time as seconds since 1970; 0 for None."""
    return datetime.datetime.fromisoformat(moment).timestamp() if moment else 0.0
