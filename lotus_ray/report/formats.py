"""Entries -> text. Only here are numbers rounded, and only in the table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from itertools import groupby

from lotus_ray.report.collect import METRICS, Entry

COLUMNS = ("benchmark", "model", "setting", "method", "metric", "mean", "std", "n")
_TABLE: dict[str, tuple[str, str]] = {  # metric: heading, format
    "rf_jsd": ("RF-JSD", ".2e"),
    "jsd": ("JSD", ".2e"),
    "avg_gap": ("Avg Gap", ".3f"),
    "unlearn_seconds": ("Time s", ".1f"),
    "forget_acc": ("Forget", ".3f"),
    "retain_acc": ("Retain", ".3f"),
    "unseen_acc": ("Unseen", ".3f"),
    "test_acc": ("Test", ".3f"),
    "mia_acc": ("MIA", ".3f"),
}


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
    for (benchmark, model, setting), group in groupby(
        entries, key=lambda entry: (entry.benchmark, entry.model, entry.setting)
    ):
        members = list(group)
        lines = [f"{benchmark}, {model}, {setting}", *_aligned(members), *_notes(members)]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


FORMATS: dict[str, Callable[[Sequence[Entry]], str]] = {
    "table": to_table,
    "csv": to_csv,
    "json": to_json,
}


def _aligned(entries: Sequence[Entry]) -> list[str]:
    cells = [["Method", *(heading for heading, _ in _TABLE.values()), "Seeds"]]
    for entry in entries:
        figures = [_figure(entry, metric, form) for metric, (_, form) in _TABLE.items()]
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


def _figure(entry: Entry, metric: str, form: str) -> str:
    mean, std = entry.mean(metric), entry.std(metric)
    if mean is None:
        return "-"
    return format(mean, form) if std is None else f"{mean:{form}} ±{std:{form}}"


def _notes(entries: Sequence[Entry]) -> list[str]:
    failures = [
        f"{entry.method}, seed {seed}: {why}"
        for entry in entries
        for seed, why in sorted(entry.failures.items())
    ]
    metrics: dict[str, dict[str, None]] = {}
    for entry in entries:
        for metric, why in entry.undefined.items():
            metrics.setdefault(why, {})[metric] = None
    return failures + [f"- {', '.join(names)}: {why}" for why, names in metrics.items()]
