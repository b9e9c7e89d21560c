"""The content that all formats for people share: columns, rounded figures, notes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from lotus_ray.report.against import Beside, Pair, beside
from lotus_ray.report.columns import METRICS
from lotus_ray.report.entries import Entry, Group, groups
from lotus_ray.report.notes import notes
from lotus_ray.report.statistics import marks

EMPTY = "The store holds no rows."
PUBLISHED = "published"
UNCHANGED = "="  # marks a row whose outputs equal the original's; a note below says so


@dataclass(frozen=True)
class Figure:
    """One figure, rounded: 0.951, 5.49e-03 or a dash."""

    mean: str
    std: str = ""
    mark: int = 0  # 1: best of its column, 2: second best
    letters: str = ""  # of its footnotes

    @property
    def text(self) -> str:
        """The mean and its spread."""
        return f"{self.mean} ±{self.std}" if self.std else self.mean


@dataclass(frozen=True)
class Heading:
    """The heading of a column, or the name of a line."""

    text: str
    letters: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a table. A published line follows the measured line that it belongs to."""

    name: Heading
    figures: tuple[Figure, ...]
    seeds: str = ""
    is_published: bool = False


@dataclass(frozen=True)
class Table:
    """A table for people. Texts are one line each, and not yet escaped."""

    title: str
    headings: tuple[Heading, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    footnotes: tuple[Heading, ...] = ()  # texts, and the letter of each

    @property
    def has_marks(self) -> bool:
        """True if any figure is marked as best or second best."""
        return any(figure.mark for line in self.lines for figure in line.figures)


def tables(entries: Sequence[Entry], against: str | None = None) -> list[Table]:
    """Return the tables of a report.

    Args:
        entries: sorted as `collect` does.
        against: "paper" or "notebooks" shows published figures beside the measured ones.
    """
    return [
        _table(group) if against is None else _beside(beside(group, against))
        for group in groups(entries)
    ]


def one_line(text: str) -> str:
    """Return a text without line ends, tabs and control characters: a name may contain them."""
    spaced = " ".join(text.split())
    return "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def _table(group: Group) -> Table:
    columns = group.columns
    headings = tuple(Heading(METRICS[name].heading) for name in columns)
    best = _marks(group, columns)
    lines = tuple(_line(entry, columns, best) for entry in group.entries)
    return Table(one_line(group.title), headings, lines, _one_line(notes(group, columns)))


def _beside(view: Beside) -> Table:
    """Return a table with measured lines, each followed by its published line."""
    best = _marks(view.group, view.metrics)
    lines: list[Line] = []
    for pair in view.pairs:
        dashes = tuple(Figure("-") for _ in view.metrics)
        lines.append(
            _line(pair.entry, view.metrics, best)
            if pair.entry is not None
            else Line(Heading(one_line(pair.method)), dashes, "0")
        )
        if pair.line is not None:
            lines.append(_published(view, pair))
    headings = tuple(
        Heading(METRICS[name].heading, view.letters_of_metric(name)) for name in view.metrics
    )
    general = [f"all published figures: {note.text}" for note in view.footnotes if not note.letter]
    return Table(
        one_line(view.group.title),
        headings,
        tuple(lines),
        _one_line([*notes(view.group, view.metrics), *view.notes, *general]),
        tuple(Heading(note.text, note.letter) for note in view.footnotes if note.letter),
    )


def _line(entry: Entry, metrics: Sequence[str], best: dict[str, dict[str, int]]) -> Line:
    """Return the measured line of a method."""
    figures = tuple(
        Figure(
            METRICS[name].show(entry.mean(name)),
            "" if (std := entry.std(name)) is None else METRICS[name].show(std),
            best[name].get(entry.method, 0),
        )
        for name in metrics
    )
    seeds = max((entry.n(name) for name in metrics), default=0)
    name = Heading(one_line(entry.method), UNCHANGED if entry.unchanged else "")
    return Line(name, figures, str(seeds))


def _published(view: Beside, pair: Pair) -> Line:
    """Return the published line of a pair, with its footnote letters."""
    assert pair.line is not None
    name = PUBLISHED
    if pair.entry is not None and pair.line.method != pair.label:
        name = f"{PUBLISHED} as {pair.line.method}"
    figures = []
    for metric in view.metrics:
        value = pair.line.figures.get(metric)
        letters = view.letters_of_figure(pair, metric)
        figures.append(
            Figure("-") if value is None else Figure(value.mean_text, value.std_text, 0, letters)
        )
    return Line(Heading(name, view.letters_of_line(pair)), tuple(figures), is_published=True)


def _marks(group: Group, metrics: Sequence[str]) -> dict[str, dict[str, int]]:
    return {name: marks(group, name) for name in metrics}


def _one_line(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(one_line(text) for text in texts)
