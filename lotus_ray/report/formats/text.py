"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from lotus_ray.report.entries import Entry
from lotus_ray.report.formats.shown import EMPTY, Figure, Line, Table, tables

_MARKS = ("", "*", "+")
Cell = tuple[str, str]  # text that is aligned, and text after it
_LEGEND = "* best, + second best"


def to_table(entries: Sequence[Entry], against: str | None = None) -> str:
    """Return tables for people, with failures, undefined values and footnotes below.

    Args:
        entries: of the report.
        against: "paper" or "notebooks" shows published figures beside the measured ones.
    """
    shown = [_text(table) for table in tables(entries, against)]
    return "\n".join(shown) if shown else f"{EMPTY}\n"


def _text(table: Table) -> str:
    legend = [_LEGEND] if table.has_marks else []
    footnotes = [f"[{note.letters}] {note.text}" for note in table.footnotes]
    lines = [table.title, *_aligned(table), *legend, *table.notes, *footnotes]
    return "\n".join(lines) + "\n"


def _aligned(table: Table) -> list[str]:
    heads = ["Method", *(head.text + _letters(head.letters) for head in table.headings), "Seeds"]
    rows = [[_name(line), *map(_cell, line.figures), (line.seeds, "")] for line in table.lines]
    names, *figures = zip(*rows, strict=True)
    columns = [_names(heads[0], names), *map(_figures, heads[1:], figures)]
    lines = ["  ".join(cells) for cells in zip(*columns, strict=True)]
    return [lines[0], "-" * len(lines[0]), *(line.rstrip() for line in lines[1:])]


def _names(head: str, cells: Sequence[Cell]) -> list[str]:
    texts = [head, *(text + suffix for text, suffix in cells)]
    width = max(map(len, texts))
    return [text.ljust(width) for text in texts]


def _figures(head: str, cells: Sequence[Cell]) -> list[str]:
    """Return cells of one width: figures are aligned right, marks and letters follow."""
    width = max(len(text) for text, _ in cells)
    rest = max(len(suffix) for _, suffix in cells)
    texts = [text.rjust(width) + suffix.ljust(rest) for text, suffix in cells]
    wide = max(len(head), width + rest)
    return [head.rjust(wide), *(text.rjust(wide) for text in texts)]


def _name(line: Line) -> Cell:
    return ("  " if line.is_published else "") + line.name.text, _letters(line.name.letters)


def _cell(figure: Figure) -> Cell:
    return figure.text, _MARKS[figure.mark] + _letters(figure.letters)


def _letters(letters: str) -> str:
    return f" [{','.join(letters)}]" if letters else ""
