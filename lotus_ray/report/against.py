"""Measured lines beside published lines, with footnotes on defects of the published figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase

from lotus_ray.report.collect import METHOD_ORDER
from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, Group
from lotus_ray.report.published import TABLE, PublishedLine, nearest_key, published_lines
from lotus_ray.report.published.configurations import CALIBRATED, settings_of
from lotus_ray.report.published.defects import DEFECTS, Defect

_CALIBRATED = "_calibrated-"


@dataclass(frozen=True)
class Footnote:
    """A defect of published figures, and its letter. General defects have no letter."""

    defect: Defect
    letter: str = ""

    @property
    def text(self) -> str:
        """The text below the table."""
        return self.defect.text


@dataclass(frozen=True)
class Pair:
    """A measured line and its published counterpart; one of the two may be missing."""

    entry: Entry | None
    line: PublishedLine | None
    differences: tuple[str, ...] = ()  # of the measured configuration from the published one

    @property
    def label(self) -> str:
        """The method's name in tables, without the settings of variants."""
        if self.entry is not None:
            return self.entry.label
        return self.line.label if self.line is not None else ""

    @property
    def method(self) -> str:
        """The method's name in this table, with the settings of variants."""
        if self.entry is not None:
            return self.entry.method
        return self.line.method if self.line is not None else ""


@dataclass(frozen=True)
class Beside:
    """A table of measured and published lines."""

    group: Group
    metrics: tuple[str, ...]  # only the columns that are published
    pairs: tuple[Pair, ...]  # in the order of the published table
    footnotes: tuple[Footnote, ...] = ()  # of this table, those with letters first
    notes: list[str] = field(default_factory=list)

    def texts(self, pair: Pair, metric: str) -> list[str]:
        """Return all footnotes on one published figure, also those of its line or column."""
        if pair.line is None or metric not in pair.line.figures:
            return []
        return [f.text for f in self.footnotes if f.defect.touches(pair.line.label, metric)]

    def letters_of_metric(self, metric: str) -> str:
        """Return the footnote letters of a column's heading."""
        return self._letters(lambda d: not d.methods and metric in d.metrics)

    def letters_of_line(self, pair: Pair) -> str:
        """Return the footnote letters of a published line's name."""
        label = pair.line.label if pair.line else ""
        return self._letters(lambda d: not d.metrics and label in d.methods)

    def letters_of_figure(self, pair: Pair, metric: str) -> str:
        """Return the footnote letters of a published figure, without those of line and column."""
        if pair.line is None or metric not in pair.line.figures:
            return ""
        label = pair.line.label
        return self._letters(lambda d: metric in d.metrics and label in d.methods)

    def _letters(self, concerns: Callable[[Defect], bool]) -> str:
        return "".join(f.letter for f in self.footnotes if f.letter and concerns(f.defect))


def beside(group: Group, source: str) -> Beside:
    """Put published lines of a benchmark, model and setting beside the measured lines.

    Lines are matched by configuration: hyper-parameters, batch size, precision, model with its
    options, and image size. If no measured variant matches a published method exactly, the closest
    variant of that method is taken, if there is only one; a note says how it differs.

    Args:
        group: the measured table.
        source: "paper" or "notebooks".

    Returns:
        The table. If nothing is published of the group, it has the measured lines and a note.
    """
    setting, calibrated, of = group.setting.partition(_CALIBRATED)
    key = (group.benchmark, group.model, setting)
    lines = published_lines(source, key) if not re.search(r"_smoke\d+$", of) else []
    if not lines:
        alone = tuple(Pair(entry, None) for entry in group.entries)
        near = ", ".join(nearest_key(source, key))
        note = f"the {source} has nothing on this table; nearest: {near}"
        return Beside(group, TABLE, alone, notes=[note])
    if calibrated:
        lines = [line for line in lines if line.configuration.get(CALIBRATED) is not False]
    else:
        lines = [line for line in lines if not line.configuration.get(CALIBRATED)]
    pairs = _pairs(group.entries, lines)
    if calibrated:  # other published lines are in the table without calibration set
        pairs = [p for p in pairs if p.entry or (p.line and p.line.configuration.get(CALIBRATED))]
    shown = [pair.line for pair in pairs if pair.line is not None]
    metrics = tuple(name for name in TABLE if any(name in line.figures for line in shown)) or TABLE
    return Beside(group, metrics, tuple(pairs), _footnotes(key, shown), _notes(pairs))


def _pairs(entries: Sequence[Entry], lines: Sequence[PublishedLine]) -> list[Pair]:
    """Match measured entries with published lines: exact matches first, then the closest."""
    result = {
        (index, entry.method): _differences(entry, line)
        for index, line in enumerate(lines)
        for entry in entries
        if entry.label == line.label
    }
    matched = {key[1]: key[0] for key, differences in result.items() if not differences}
    left = {index for index in range(len(lines)) if index not in matched.values()}
    for index, method in sorted(result, key=lambda key: len(result[key])):
        rivals = [len(d) for (p, m), d in result.items() if p == index and m not in matched]
        is_clear = rivals.count(len(result[index, method])) == 1
        if index in left and method not in matched and is_clear:
            matched[method] = index
            left.remove(index)
    pairs = [
        Pair(entry, lines[at], tuple(result[at, entry.method]))
        if (at := matched.get(entry.method)) is not None
        else Pair(entry, None)
        for entry in entries
    ]
    return sorted(pairs + [Pair(None, lines[index]) for index in sorted(left)], key=_order)


def _differences(entry: Entry, line: PublishedLine) -> list[str]:
    ours = settings_of(next(iter(entry.rows.values())).spec)
    return [
        f"{name}={_word(ours.get(name))} (published: {_word(wanted)})"
        for name, wanted in line.configuration.items()
        if ours.get(name) != wanted
    ]


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _order(pair: Pair) -> int:
    is_published = pair.label in METHOD_ORDER
    return METHOD_ORDER.index(pair.label) if is_published else len(METHOD_ORDER)


def _footnotes(key: tuple[str, str, str], lines: Sequence[PublishedLine]) -> tuple[Footnote, ...]:
    """Return the footnotes on some figure of the lines, those with letters first."""
    occurring = [
        defect
        for defect in DEFECTS
        if defect.touches_table(*key)
        and any(defect.touches(line.label, name) for line in lines for name in line.figures)
    ]
    lettered = [defect for defect in occurring if not defect.is_general]
    return (
        *(Footnote(d, letter) for d, letter in zip(lettered, ascii_lowercase, strict=False)),
        *(Footnote(d) for d in occurring if d.is_general),
    )


def _notes(pairs: Sequence[Pair]) -> list[str]:
    """Return the sources of the published figures, and how measured configurations differ."""
    sources: dict[str, set[str]] = {}
    differing: dict[str, list[str]] = {}
    for pair in pairs:
        for metric, figure in pair.line.figures.items() if pair.line else ():
            sources.setdefault(figure.source, set()).add(metric)
        for difference in pair.differences:
            differing.setdefault(difference, []).append(pair.method)
    text = [
        f"{source} ({', '.join(METRICS[name].heading for name in TABLE if name in metrics)})"
        for source, metrics in sources.items()
    ]
    return [f"published figures as printed: {'; '.join(text)}"] + [
        f"measured with other settings than published: {difference}: {', '.join(methods)}"
        for difference, methods in differing.items()
    ]
