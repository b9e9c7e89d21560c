"""Seconds that each method takes: to prepare, to unlearn, to evaluate."""

from __future__ import annotations

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Group
from lotus_ray.report.figures.rows import put_dots, put_rows, rows_of
from lotus_ray.report.figures.sheet import (
    EM,
    GAP,
    TEXT,
    WIDTH,
    Drawing,
    lines_of,
    mark_gold,
    scale,
    sheet,
    spans_much,
)
from lotus_ray.report.resolution import idle
from lotus_ray.report.statistics import hardware
from lotus_ray.store.results import Store

TITLE = "Time"
PARTS = {"unlearn_seconds": "unlearn", "prepare_seconds": "prepare", "evaluate_seconds": "evaluate"}
_SHARES = (0.5, 0.25, 0.25)  # of the width
_BETWEEN = 24.0
_TOP = 26.0
_LINE = TEXT + 3


def draw(group: Group, store: Store) -> Drawing:
    """Draw three columns, each with its own scale in seconds, and one row per method."""
    if not any(entry.n(part) for entry in group.entries for part in PARTS):
        return Drawing(TITLE, "No cell has a time.")
    rows = rows_of(group)
    unlike = _unlike_hardware(group)
    below = lines_of(unlike, int((WIDTH - 8) / EM), most=8) if unlike else []
    figure = sheet(_TOP + rows.height + GAP + 12 + _LINE * len(below))
    left, free = rows.left, WIDTH - rows.left - 2 * _BETWEEN - 16
    log = spans_much(*(_values(group, metric) for metric in PARTS))
    for (metric, name), share in zip(PARTS.items(), _SHARES, strict=True):
        axes = put_rows(figure, rows, left, free * share, _TOP)
        drawn = put_dots(axes, group, metric)
        scale(axes, "x", drawn, ticks=4 if share == max(_SHARES) else 2, log=log)
        mark_gold(axes, group.gold.mean(metric) if group.gold else None)
        if axes.get_xscale() == "linear":
            axes.set_xlim(0, 1.08 * max(drawn, default=0) or 1)
        axes.set_title(name)
        axes.set_xlabel("seconds")
        left += free * share + _BETWEEN
    if below:
        figure.text(0.01, 0.01, "\n".join(below), va="bottom", fontsize=TEXT - 1.5)
    return Drawing(
        TITLE,
        "Seconds of wall time; “unlearn” of the original and the gold standards is their training. "
        "One dot per seed, the line is their mean; dotted is the gold standard. The three scales "
        + ("are logarithmic, and differ." if log else "differ.")
        + (f" {unlike}." if unlike else ""),
        figure,
        _seen(group),
    )


def _values(group: Group, metric: str) -> list[float]:
    return [value for entry in group.entries for value in entry.values.get(metric, {}).values()]


def _seen(group: Group) -> str:
    """Say which methods that changed something are quickest and slowest, beside training anew."""
    name, still = "unlearn_seconds", idle(group)
    known = sorted(
        (entry for entry in group.rivals if entry.n(name) and entry.method not in still),
        key=lambda entry: entry.mean(name) or 0.0,
    )
    if not known:
        return ""
    ends = dict.fromkeys((known[0].method, known[-1].method))
    means = {entry.method: entry.mean(name) for entry in group.entries}
    shown = [f"{method} {METRICS[name].show(means[method])} s" for method in ends]
    text = " is quickest, ".join(shown) + (" slowest" if len(shown) > 1 else "")
    gold = group.gold.mean(name) if group.gold else None
    text += f"; training without the forget set took {METRICS[name].show(gold)} s" if gold else ""
    return f"Of the methods that changed something, {text}." if still else f"{text}."


def _unlike_hardware(group: Group) -> str:
    """Return the methods by hardware; empty if all ran on the same."""
    result = hardware(group)
    if len(result) < 2:
        return ""
    text = "; ".join(f"{name}: {', '.join(methods)}" for name, methods in result.items())
    return f"Different hardware: {text}"
