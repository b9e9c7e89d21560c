"""Published figures: the paper's tables and the authors' notebooks, as printed."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cache
from importlib.resources import files
from typing import Any

from lotus_ray.report.columns import METRICS
from lotus_ray.report.published.configurations import configuration, label_of

SOURCES = {"paper": "paper_tables.csv", "notebooks": "reference_results.csv"}
TABLE = (
    "rf_jsd_x1e4",
    "jsd_x1e4",
    "avg_gap",
    "time_min",
    "forget_acc",
    "retain_acc",
    "test_acc",
    "mia_acc",
)
_PERCENT = "_pct"
_TUNING = "tuning_alpha"  # the notebooks' name for variants of α in the main table's setting
_MUFAC = "instance_mufac_fixed16pct"

Key = tuple[str, str, str]  # benchmark, model, setting


@dataclass(frozen=True)
class PublishedFigure:
    """A figure as printed, in the unit of the report's column."""

    mean: float
    std: float | None
    mean_text: str
    std_text: str
    source: str  # such as "paper Table 1"


@dataclass(frozen=True)
class PublishedLine:
    """The published figures of one configuration of a method, by metric."""

    method: str  # published name: SalUn(RL)
    label: str  # name in reports: SalUn
    configuration: dict[str, Any]
    figures: dict[str, PublishedFigure] = field(default_factory=dict)


def published_lines(source: str, key: Key) -> list[PublishedLine]:
    """Return the published lines of a benchmark, model and setting; empty if there are none.

    Two names of the same configuration, such as LoTUS and LoTUS(gumbel), are one line. If several
    tables print a figure, the first one is its source: the paper's Tables 1 to 4 come before those
    of the appendix.

    Args:
        source: "paper" or "notebooks".
        key: benchmark, model and setting.
    """
    return list(_load(source).get(key, {}).values())


def nearest_key(source: str, key: Key) -> Key:
    """Return the published benchmark, model and setting with the most similar spelling."""
    return max(
        _load(source),
        key=lambda published: sum(
            SequenceMatcher(None, a.lower(), b.lower()).ratio()
            for a, b in zip(key, published, strict=True)
        ),
    )


@cache
def _load(source: str) -> dict[Key, dict[str, PublishedLine]]:
    """Read a CSV of published figures; return lines by table and configuration."""
    text = files(__name__).joinpath(SOURCES[source]).read_text(encoding="utf-8")
    result: dict[Key, dict[str, PublishedLine]] = {}
    for row in csv.DictReader(text.splitlines()):
        metric = row["metric"].removesuffix(_PERCENT)
        if metric not in METRICS or label_of(row["method"]) is None:
            continue  # gaps, correlations, and an RF-JSD without a unit
        key = _key(row)
        settings = configuration(row["method"], *key)
        name = json.dumps(settings, sort_keys=True)
        line = PublishedLine(row["method"], label_of(row["method"]) or "", settings)
        line = result.setdefault(key, {}).setdefault(name, line)
        line.figures.setdefault(metric, _figure(row))
    return result


def _key(row: dict[str, str]) -> Key:
    setting = row["setting"]
    if setting == _TUNING:
        setting = _MUFAC if row["benchmark"] == "MUFAC" else "instance_10pct"
    return row["benchmark"], row["model"], setting


def _figure(row: dict[str, str]) -> PublishedFigure:
    mean, std = row["mean"], row["std"]
    if row["metric"].endswith(_PERCENT):
        mean, std = (f"{float(text) / 100:.4f}" if text else "" for text in (mean, std))
    return PublishedFigure(
        float(mean), float(std) if std else None, mean, std, row["source_notebook"]
    )
