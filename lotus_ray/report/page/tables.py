"""A table of the page: rounded for people, with the exact number for sorting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from lotus_ray.report.cautions import cautions
from lotus_ray.report.columns import ATTACK, METRICS
from lotus_ray.report.entries import Entry, Group, Interval
from lotus_ray.report.formats.shown import UNCHANGED
from lotus_ray.report.notes import notes
from lotus_ray.report.page.cells import anchor_of
from lotus_ray.report.page.tint import gap_to_gold, tints
from lotus_ray.report.statistics import interval, marks

_SHORT = dict(zip(ATTACK, ("AUC", "TPR@1 %"), strict=True))  # beside MIA


@dataclass(frozen=True)
class Heading:
    """A column."""

    text: str
    about: str


@dataclass(frozen=True)
class Value:
    """A mean over seeds. `sort` is empty if there is none."""

    text: str
    std: str = ""
    sort: str = ""
    interval: str = ""  # 95 %: of the mean over seeds, or over the samples of the only seed
    mark: int = 0  # 1: best, 2: second best
    tint: int = 0  # 4: as near to gold as can be told, 0: far, or there is no gold
    about: str = ""  # the interval and the distance to gold, in words
    below: str = ""  # the interval, where it stands below the value


@dataclass(frozen=True)
class Line:
    """A method."""

    method: str
    kind: str  # control or rival
    values: list[Value]
    seeds: int
    failed: int
    mark: str = ""  # of a row whose outputs equal the original's


@dataclass(frozen=True)
class Note:
    """A note below the table, and the cell that it is about, if any."""

    text: str
    cell: str = ""
    is_caution: bool = False


@dataclass(frozen=True)
class Table:
    """A benchmark × model × setting. `full` has every metric for which any method has a value.

    Its notes say why a metric is undefined, even if no method has a value.
    """

    headings: list[Heading]
    lines: list[Line]
    full_headings: list[Heading]
    full: list[Line]
    notes: list[Note]
    full_notes: list[Note]  # notes that are not in `notes`
    has_marks: bool
    caption: str


def table_of(group: Group) -> Table:
    """Return a table for the page."""
    every = [name for name in METRICS if any(entry.n(name) for entry in group.entries)]
    columns = page_columns(group)
    others = [name for name in METRICS if name not in columns]
    lines = _lines(group, columns)
    own_notes = _notes(group)
    return Table(
        _headings(columns, _SHORT),
        lines,
        _headings(every),
        _lines(group, every),
        own_notes,
        [Note(text) for text in notes(group, others) if text not in {n.text for n in own_notes}],
        any(value.mark for line in lines for value in line.values),
        _caption(group),
    )


def page_columns(group: Group) -> tuple[str, ...]:
    """Return the columns of a table, with the attack's AUC and TPR beside MIA."""
    measured = [name for name in ATTACK if any(entry.n(name) for entry in group.entries)]
    at = group.columns.index("mia_acc") + 1
    return (*group.columns[:at], *measured, *group.columns[at:])


def _caption(group: Group) -> str:
    """Say what a line and a tint are."""
    count = len(group.seeds)
    means = "Values of one seed." if count < 2 else f"Means of {count} seeds, ± their deviation."
    if group.gold is None:
        return means
    return f"{means} Green: near gold. Strongest green: no farther than by chance."


def _headings(
    names: Sequence[str], short: Mapping[str, str] = MappingProxyType({})
) -> list[Heading]:
    return [Heading(short.get(name, METRICS[name].heading), _about(name)) for name in names]


def _about(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.about} ({metric.better} is better)" if metric.better else metric.about


def _lines(group: Group, names: Sequence[str]) -> list[Line]:
    """Return one line per method, with a value for each named metric."""
    best = {name: marks(group, name) for name in names}
    tint = {name: tints(group, name) for name in names}
    return [
        Line(
            entry.method,
            "rival" if entry.is_rival else "control",
            [
                _value(
                    group,
                    entry,
                    name,
                    best[name].get(entry.method, 0),
                    tint[name].get(entry.method, 0),
                )
                for name in names
            ],
            max((entry.n(name) for name in names), default=0),
            len(entry.failures),
            UNCHANGED if entry.unchanged else "",
        )
        for entry in group.entries
    ]


def _value(group: Group, entry: Entry, name: str, mark: int, tint: int) -> Value:
    """Return the mean of a metric, rounded, with its spread, interval and distance to gold."""
    metric, mean, std = METRICS[name], entry.mean(name), entry.std(name)
    if mean is None:
        return Value("-")
    over, ends = _interval(entry, name)
    shown = f"{metric.show(ends[0])} to {metric.show(ends[1])}" if ends else ""
    gap = gap_to_gold(entry, group, name)
    about = [f"95 % interval over {over}: {shown}"] if shown else []
    about += [f"{metric.show(gap)} from gold"] if gap is not None and not entry.is_gold else []
    return Value(
        metric.show(mean),
        "" if std is None else metric.show(std),
        repr(mean),
        shown,
        mark,
        tint,
        "; ".join(about),
        f"{max(ends[0], 0):.2f} to {min(ends[1], 1):.2f}" if ends and name in ATTACK else "",
    )


def _interval(entry: Entry, name: str) -> tuple[str, Interval | None]:
    """Return what an interval is over, and its ends: seeds, or the samples of the only seed."""
    if entry.n(name) > 1:
        return "seeds", interval(entry.values[name].values())
    return "samples", next(iter(entry.intervals.get(name, {}).values()), None)


def _notes(group: Group) -> list[Note]:
    cells = {
        f"{entry.method}, seed {seed}: {why}": anchor_of(entry.rows[seed])
        for entry in group.entries
        for seed, why in entry.failures.items()
    }
    columns = page_columns(group)
    warned = cautions(group, columns)
    return [Note(text, cells.get(text, ""), text in warned) for text in notes(group, columns)]
