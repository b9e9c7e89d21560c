"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.shown import EMPTY, Figure, Heading, Line, Table, tables

_MARKS = ("", "*", "+")
_LEGEND = "* best, + second best"


def to_table(entries: Sequence[Entry], against: str | None = None) -> str:
    """Return a table for people, with failures, undefined values and footnotes below it."""
    shown = [_text(table) for table in tables(entries, against)]
    return "\n".join(shown) if shown else f"{EMPTY}\n"


def _text(table: Table) -> str:
    legend = [_LEGEND] if table.has_marks else []
    footnotes = [f"[{note.letters}] {note.text}" for note in table.footnotes]
    lines = [table.title, *_aligned(table), *legend, *table.notes, *footnotes]
    return "\n".join(lines) + "\n"


def _aligned(table: Table) -> list[str]:
    heads = [("Method", ""), *map(_head, table.headings), ("Seeds", "")]
    rows = [[_name(line), *map(_cell, line.figures), (line.seeds, "")] for line in table.lines]
    columns = [
        _column(column, place == 0) for place, column in enumerate(zip(heads, *rows, strict=True))
    ]
    lines = ["  ".join(cells) for cells in zip(*columns, strict=True)]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _names(cells: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(text + suffix) for text, suffix in cells)
    return [(text + suffix).ljust(width) for text, suffix in cells]


def _figures(cells: Sequence[tuple[str, str]]) -> list[str]:
    """Return cells of one width: figures end at one place, marks and letters follow them."""
    width = max(len(text) for text, _ in cells)
    rest = max(len(suffix) for _, suffix in cells)
    return [text.rjust(width) + suffix.ljust(rest) for text, suffix in cells]


def _head(heading: Heading) -> tuple[str, str]:
    return heading.text, _letters(heading.letters)


def _name(line: Line) -> tuple[str, str]:
    return ("  " if line.is_published else "") + line.name.text, _letters(line.name.letters)


def _cell(figure: Figure) -> tuple[str, str]:
    return figure.text, _MARKS[figure.mark] + _letters(figure.letters)


def _letters(letters: str) -> str:
    return f" [{','.join(letters)}]" if letters else ""
