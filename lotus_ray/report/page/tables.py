"""A table of the page: rounded for people, with the exact number for sorting."""

from __future__ import annotations

from dataclasses import dataclass

from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.notes import notes
from lotus_ray.report.page.cells import anchor_of
from lotus_ray.report.statistics import interval, marks


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
    interval: str = ""  # 95 % t interval of the mean over seeds
    mark: int = 0  # 1: best, 2: second best


@dataclass(frozen=True)
class Line:
    """A method."""

    method: str
    kind: str  # control or rival
    values: list[Value]
    seeds: int
    failed: int


@dataclass(frozen=True)
class Note:
    """A note below the table, and the cell that it is about, if any."""

    text: str
    cell: str = ""


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


def table_of(group: Group) -> Table:
    """Return a table for the page."""
    every = [name for name in METRICS if any(entry.n(name) for entry in group.entries)]
    columns = group.columns
    others = [name for name in METRICS if name not in columns]
    lines = _lines(group, columns)
    own_notes = _notes(group)
    return Table(
        _headings(columns),
        lines,
        _headings(every),
        _lines(group, every),
        own_notes,
        [Note(text) for text in notes(group, others) if text not in {n.text for n in own_notes}],
        any(value.mark for line in lines for value in line.values),
    )


def _headings(names: tuple[str, ...] | list[str]) -> list[Heading]:
    return [Heading(METRICS[name].heading, _about(name)) for name in names]


def _about(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.about} ({metric.better} is better)" if metric.better else metric.about


def _lines(group: Group, names: tuple[str, ...] | list[str]) -> list[Line]:
    """Return one line per method, with a value for each named metric."""
    best = {name: marks(group, name) for name in names}
    return [
        Line(
            entry.method,
            "rival" if entry.is_rival else "control",
            [_value(entry, name, best[name].get(entry.method, 0)) for name in names],
            max((entry.n(name) for name in names), default=0),
            len(entry.failures),
        )
        for entry in group.entries
    ]


def _value(entry: Entry, name: str, mark: int) -> Value:
    """Return the mean of a metric, rounded, with its spread and interval."""
    metric, mean, std = METRICS[name], entry.mean(name), entry.std(name)
    if mean is None:
        return Value("-")
    around = interval(entry.values[name].values())
    return Value(
        metric.show(mean),
        "" if std is None else metric.show(std),
        repr(mean),
        "" if around is None else f"{metric.show(around[0])} to {metric.show(around[1])}",
        mark,
    )


def _notes(group: Group) -> list[Note]:
    cells = {
        f"{entry.method}, seed {seed}: {why}": anchor_of(entry.rows[seed])
        for entry in group.entries
        for seed, why in entry.failures.items()
    }
    return [Note(text, cells.get(text, "")) for text in notes(group, group.columns)]
