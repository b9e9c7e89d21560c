"""Entries -> text. Only here are numbers rounded, and only in the table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, groups
from lotus_ray.report.notes import notes

COLUMNS = ("benchmark", "model", "setting", "method", "metric", "mean", "std", "n")
_TABLE = (
    "rf_jsd",
    "jsd",
    "avg_gap",
    "unlearn_seconds",
    "forget_acc",
    "retain_acc",
    "unseen_acc",
    "test_acc",
    "mia_acc",
)


def to_csv(entries: Sequence[Entry]) -> str:
    """Return one line for each entry and metric, at full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        for metric in METRICS:
            if entry.n(metric):
                std = entry.std(metric)
                writer.writerow(
                    [
                        entry.benchmark,
                        entry.model,
                        entry.setting,
                        entry.method,
                        metric,
                        repr(entry.mean(metric)),
                        "" if std is None else repr(std),
                        entry.n(metric),
                    ]
                )
    return text.getvalue()


def to_json(entries: Sequence[Entry]) -> str:
    """Return the rows of `to_csv` with the value of each seed, and null with a reason."""
    rows = [
        {
            "benchmark": entry.benchmark,
            "model": entry.model,
            "setting": entry.setting,
            "method": entry.method,
            "metric": metric,
            "mean": entry.mean(metric),
            "std": entry.std(metric),
            "n": entry.n(metric),
            "values": {str(seed): v for seed, v in entry.values.get(metric, {}).items()},
            "undefined": entry.undefined.get(metric),
            "failures": {str(seed): why for seed, why in entry.failures.items()},
        }
        for entry in entries
        for metric in METRICS
    ]
    return json.dumps(rows, indent=1) + "\n"


def to_table(entries: Sequence[Entry]) -> str:
    """Return a table for people, with failures and undefined values below it."""
    if not entries:
        return "The store holds no rows.\n"
    blocks = []
    for group in groups(entries):
        lines = [group.title, *_aligned(group.entries), *notes(group, _TABLE)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


FORMATS: dict[str, Callable[[Sequence[Entry]], str]] = {
    "table": to_table,
    "csv": to_csv,
    "json": to_json,
}


def _aligned(entries: Sequence[Entry]) -> list[str]:
    cells = [["Method", *(METRICS[name].heading for name in _TABLE), "Seeds"]]
    for entry in entries:
        figures = [_figure(entry, name) for name in _TABLE]
        cells.append([entry.method, *figures, str(max(map(entry.n, _TABLE), default=0))])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _figure(entry: Entry, name: str) -> str:
    metric, std = METRICS[name], entry.std(name)
    shown = metric.show(entry.mean(name))
    return shown if std is None else f"{shown} ±{metric.show(std)}"
