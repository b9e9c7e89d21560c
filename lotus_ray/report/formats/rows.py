"""Rows for programs, at full precision: CSV with the columns of the published tables, and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from lotus_ray.report.against import Beside, Pair, beside
from lotus_ray.report.columns import BUILT_IN, CHANGE, METRICS
from lotus_ray.report.entries import Entry, Group, groups
from lotus_ray.report.resolution import resolution
from lotus_ray.report.statistics import hardware, interval, marks, noise_floor, rank_stability

COLUMNS = ("benchmark", "model", "setting", "method", "metric", "mean", "std", "n")
PUBLISHED_COLUMNS = ("published_mean", "published_std", "source", "footnotes")

Row = dict[str, Any]


def to_csv(entries: Sequence[Entry], against: str | None = None) -> str:
    """Return one line for each entry and metric with a value. Footnotes are separated by |.

    Args:
        entries: of the report.
        against: "paper" or "notebooks" adds columns with published figures.
    """
    columns = (*COLUMNS, *(PUBLISHED_COLUMNS if against else ()))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for group in groups(entries):
        view = beside(group, against) if against else None
        for pair in view.pairs if view else _alone(group):
            for metric in METRICS:
                row = _row(group, pair, metric) | (_published(view, pair, metric) if view else {})
                if row["n"] or row.get("source"):
                    writer.writerow([_csv_value(row[column]) for column in columns])
    return text.getvalue()


def to_json(entries: Sequence[Entry], against: str | None = None) -> str:
    """Return a row for each entry and metric, with the value of each seed, or why it has none.

    `interval` is the 95 % t interval over seeds, `intervals` are over samples, by seed. `mark` is 1
    for the best and 2 for the second best. `noise_floor` is the difference between two gold
    standards, `resolution` the change by one image. `rank_agreement` is Kendall's τ between seeds,
    `ranks` the method's rank by seed.

    Args:
        entries: of the report.
        against: "paper" or "notebooks" adds published figures.
    """
    rows = []
    for group in groups(entries):
        view = beside(group, against) if against else None
        metrics = _metrics(group)
        statistics = {metric: _Statistics(group, metric) for metric in metrics}
        devices = hardware(group)
        for pair in view.pairs if view else _alone(group):
            on = [name for name, methods in devices.items() if pair.method in methods]
            for metric in metrics:
                row = _row(group, pair, metric) | _seeds(pair.entry, metric)
                row |= statistics[metric].of(pair.entry) | {"hardware": on if pair.entry else []}
                if view is not None:
                    row |= _published(view, pair, metric)
                if pair.entry is not None or row["source"]:
                    rows.append(row)
    return json.dumps(rows, indent=1) + "\n"


def _metrics(group: Group) -> list[str]:
    """Return all metrics, but for those of change, and of plug-ins, that no row has."""
    measured = any(entry.n("distance") for entry in group.entries)
    own = {name for entry in group.entries for name in (*entry.values, *entry.undefined)}
    names = [name for name in METRICS if name in BUILT_IN or name in own]
    return [name for name in names if measured or name not in CHANGE]


class _Statistics:
    """Marks, noise floor and ranks of one metric in one table."""

    def __init__(self, group: Group, metric: str) -> None:
        self.marks = marks(group, metric)
        self.noise_floor = noise_floor(group, metric)
        self.resolution = resolution(group, metric)
        self.stability = rank_stability(group, metric)

    def of(self, entry: Entry | None) -> Row:
        method, result = entry.method if entry else "", self.stability
        ranks = result.ranks.get(method, {}) if result else {}
        return {
            "mark": self.marks.get(method),
            "noise_floor": self.noise_floor,
            "resolution": self.resolution,
            "rank_agreement": result.tau if result else None,
            "ranks": {str(seed): rank for seed, rank in ranks.items()},
        }


def _alone(group: Group) -> Iterator[Pair]:
    return (Pair(entry, None) for entry in group.entries)


def _row(group: Group, pair: Pair, metric: str) -> Row:
    """Return the columns that CSV and JSON share."""
    entry = pair.entry
    return {
        "benchmark": group.benchmark,
        "model": group.model,
        "setting": group.setting,
        "method": pair.method,
        "metric": metric,
        "mean": entry.mean(metric) if entry else None,
        "std": entry.std(metric) if entry else None,
        "n": entry.n(metric) if entry else 0,
    }


def _seeds(entry: Entry | None, metric: str) -> Row:
    """Return values, reasons, failures and intervals by seed."""
    values = entry.values.get(metric, {}) if entry else {}
    undefined = entry.undefined.get(metric, {}) if entry else {}
    intervals = entry.intervals.get(metric, {}) if entry else {}
    return {
        "values": {str(seed): value for seed, value in values.items()},
        "undefined": {str(seed): why for seed, why in undefined.items()},
        "failures": {str(s): why for s, why in entry.failures.items()} if entry else {},
        "smoke": any(row.smoke for row in entry.rows.values()) if entry else False,
        "interval": interval(values.values()),
        "intervals": {str(seed): result for seed, result in intervals.items()},
    }


def _published(view: Beside, pair: Pair, metric: str) -> Row:
    figure = pair.line.figures.get(metric) if pair.line else None
    return {
        "published_mean": figure.mean if figure else None,
        "published_std": figure.std if figure else None,
        "source": figure.source if figure else None,
        "footnotes": [*view.texts(pair, metric), *(pair.differences if figure else ())],
    }


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    return " | ".join(value) if isinstance(value, list) else value
